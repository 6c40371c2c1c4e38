"""What each store does when a file or its disk fails, by test. Needs strace, and root for the tmpfs of the full disk."""

import argparse
import os
import shutil
import subprocess

FILES = {"redb": "tasks.redb", "sqlite": "tasks.sqlite", "journal": "0000000000.segment"}


def run(*arguments):
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=60,
                              env={**os.environ, "RUST_BACKTRACE": "0"})
    except subprocess.TimeoutExpired:
        return "NO END WITHIN 60 s"
    lines = (done.stdout + done.stderr).strip().splitlines()
    lines = [line for line in lines if not line.lstrip().startswith(("note:", "strace:", "stack backtrace", "at "))]
    if done.returncode:
        lines.append(f"exit code {done.returncode}")
    return "\n".join(lines)


class Faults:
    def __init__(self, binary, root, kind):
        self.binary, self.kind = binary, kind
        self.folder = os.path.join(root, f"faults-{kind}")
        self.file = os.path.join(self.folder, FILES[kind.split("-")[0]])
        self.fresh()

    def fresh(self, batches=50):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.write(batches)

    def write(self, batches, *filler, before=()):
        return run(*before, self.binary, "faults", self.kind, self.folder, str(batches), *filler)

    def show(self, title, text):
        print(f"\n{self.kind}: {title}")
        for line in text.splitlines():
            print(f"    {line[:200]}")

    def open(self, title):
        self.show(title, self.write(0))

    def mode(self):
        self.fresh()
        holder = subprocess.Popen([self.binary, "hold", self.kind, self.folder], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        holder.stdout.readline()
        self.show("modes while open, umask 022", run("stat", "-c", "%n %a", *(
            os.path.join(self.folder, name) for name in sorted(os.listdir(self.folder)))))
        self.open("second process")
        holder.stdin.close()
        holder.wait()

    def damage(self):
        self.fresh()
        size = os.path.getsize(self.file)
        for title, length in [("truncated to nothing", 0), ("truncated to half", size // 2),
                              ("truncated by 100 bytes", size - 100)]:
            self.fresh()
            os.truncate(self.file, length)
            self.open(title)
        for title, offset, count in [("8 bytes flipped in the first 64", 4, 8), ("8 bytes flipped at 1/4", size // 4, 8),
                                     ("8 bytes flipped in the middle", size // 2, 8),
                                     ("100 places flipped", 4096, 100)]:
            self.fresh()
            with open(self.file, "r+b") as file:
                places = range(offset, offset + count)
                if count == 100:
                    places = range(offset, size - 1, max(1, (size - offset) // 100))
                for place in places:
                    file.seek(place)
                    byte = file.read(1)
                    file.seek(place)
                    file.write(bytes([byte[0] ^ 0x5A]))
            self.open(title)
        self.fresh()
        with open(self.file, "wb") as file:
            file.write(b"The quick brown fox jumps over the lazy dog.\n" * 2000)
        self.open("a foreign file")
        # The field of the version: a byte of the file format in redb and SQLite, the last of the magic here.
        offset, value = {"redb": (64, 9), "sqlite": (18, 9), "journal": (7, ord("9"))}[self.kind.split("-")[0]]
        self.fresh()
        with open(self.file, "r+b") as file:
            file.seek(offset)
            file.write(bytes([value]))
            if self.kind.startswith("redb"):
                file.seek(192)
                file.write(bytes([value]))
        self.open("a newer format")

    def read_only(self):
        self.fresh()
        mounted = subprocess.run(["mount", "--bind", self.folder, self.folder], capture_output=True)
        if mounted.returncode:
            self.show("read-only folder", "mount is not permitted")
            return
        subprocess.run(["mount", "-o", "remount,bind,ro", self.folder], check=True)
        try:
            self.open("read-only folder")
        finally:
            subprocess.run(["umount", self.folder], check=True)

    def full_disk(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", self.folder], capture_output=True)
        if mounted.returncode:
            self.show("full disk", "mount is not permitted")
            return
        try:
            filler = os.path.join(self.folder, "filler") if self.kind != "journal" else os.path.join(
                self.folder, "filler.tmp")
            with open(filler, "wb") as file:
                file.write(bytes(16 << 20))
            self.show("full disk, space freed after 3 failures", self.write(200, filler))
            handle = os.open(filler, os.O_WRONLY | os.O_CREAT)
            try:
                while os.write(handle, bytes(4096)):
                    pass
            except OSError:
                os.close(handle)
            self.open("full disk at start")
        finally:
            subprocess.run(["umount", self.folder], check=True)

    def sync_failures(self):
        for call, when, title in [("fdatasync,fsync", "20..22", "three syncs in a row fail"),
                                  ("pwrite64", "30..32", "three writes in a row fail")]:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.show(f"{title} with EIO", self.write(60, before=(
                "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:error=EIO:when={when}")))
        shutil.rmtree(self.folder, ignore_errors=True)
        self.show("a sync takes 500 ms", self.write(20, before=(
            "strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=fdatasync,fsync:delay_enter=500000:when=10..12")))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("folder")
    parser.add_argument("stores", nargs="*", default=["redb", "redb-id-checked", "sqlite", "sqlite-checked", "sqlite-range", "journal"])
    options = parser.parse_args()
    os.umask(0o022)
    for kind in options.stores:
        faults = Faults(options.binary, os.path.abspath(options.folder), kind)
        for check in [faults.mode, faults.damage, faults.read_only, faults.full_disk, faults.sync_failures]:
            check()
        shutil.rmtree(faults.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
