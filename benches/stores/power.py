"""Power loss, for any store: replays a recorded log of system calls up to a random point.

strace records a writer. Up to the cut, what was synced is applied; of the writes since the last sync of their file, a
random part is applied, in random order, some of them torn at a sector. A sync counts for its file; creations,
removals and truncations are kept in order, as ext4 does. The store then has to open, and to have all that its writer
was told was durable.
"""

import argparse
import copy
import os
import random
import re
import shutil
import subprocess
import sys

SECTOR = 512
CALLS = "openat,pwrite64,pwritev,write,writev,ftruncate,fallocate,fdatasync,fsync,unlink,unlinkat,rename,close,lseek"


def record(binary, kind, folder, batches, log):
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(
        ["strace", "-f", "-xx", "-s", "4000000", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", log]
        + [binary, "write-recorded", kind, folder, str(batches)],
        check=True, stdout=subprocess.DEVNULL,
    )


def unescape(text):
    return bytes.fromhex(text.replace("\\x", ""))


def parse(log, folder):
    """Yields (action, file name, ...) for the files of the folder, and ("output", text)."""
    open_files, positions = {}, {}
    for line in open(log):
        call = re.match(r"\d+ +(\w+)\((.*)\) += (-?\d+)", line)
        if not call or int(call[3]) < 0:
            continue
        name, arguments, result = call[1], call[2], int(call[3])
        if name == "openat":
            path = unescape(re.search(r'"([^"]*)"', arguments)[1]).decode()
            open_files.pop(result, None)
            if os.path.dirname(path) == folder:
                open_files[result] = os.path.basename(path)
                positions[result] = 0
                if "O_CREAT" in arguments:
                    yield ("create", os.path.basename(path), "O_TRUNC" in arguments)
            continue
        if name in ("unlink", "unlinkat"):
            path = unescape(re.search(r'"([^"]*)"', arguments)[1]).decode()
            if os.path.dirname(path) == folder:
                yield ("unlink", os.path.basename(path))
            continue
        number = int(re.match(r"\d+", arguments)[0]) if re.match(r"\d+", arguments) else -1
        if name == "write" and number == 1:
            yield ("output", unescape(re.search(r'"([^"]*)"', arguments)[1]).decode())
        if number not in open_files:
            continue
        file = open_files[number]
        if name == "pwrite64":
            data, offset = re.search(r'"([^"]*)", \d+, (\d+)$', arguments).groups()
            yield ("write", file, int(offset), unescape(data)[:result])
        elif name == "ftruncate":
            yield ("truncate", file, int(arguments.split(", ")[1]))
        elif name in ("fdatasync", "fsync"):
            yield ("sync", file)
        elif name == "close":
            del open_files[number]
        elif name not in ("lseek",):
            sys.exit(f"power.py does not replay {line[:80]}")


class Disk:
    """Files as they are after a power loss: `durable` bytes, and `pending` writes since the last sync."""

    def __init__(self, ignores_syncs):
        self.files, self.pending, self.ignores_syncs = {}, {}, ignores_syncs

    def apply(self, event):
        action, file = event[0], event[1]
        if action == "create":
            if event[2] or file not in self.files:
                self.files[file], self.pending[file] = bytearray(), []
        elif action == "unlink":
            self.files.pop(file, None)
            self.pending.pop(file, None)
        elif action == "sync" and self.ignores_syncs:
            pass
        elif action == "sync":
            for change in self.pending[file]:
                self.change(file, change)
            self.pending[file] = []
        else:
            self.pending[file].append(event)

    def change(self, file, change):
        data = self.files[file]
        if change[0] == "truncate":
            length = change[2]
            del data[length:]
            data.extend(bytes(length - len(data)))
        else:
            _, _, offset, content = change
            data.extend(bytes(max(0, offset + len(content) - len(data))))
            data[offset:offset + len(content)] = content

    def lose_power(self, dice):
        for file, changes in self.pending.items():
            mode = dice.choice(["none", "all", "some", "some", "torn"])
            if mode == "none":
                continue
            kept = [c for c in changes if mode == "all" or dice.random() < 0.5]
            if mode in ("some", "torn"):
                dice.shuffle(kept)
            for change in kept:
                if change[0] == "truncate" or mode != "torn":
                    self.change(file, change)
                    continue
                _, _, offset, content = change
                for start in range(0, len(content), SECTOR):
                    if dice.random() < 0.5:
                        self.change(file, ("write", file, offset + start, content[start:start + SECTOR]))


def trial(binary, kind, root, batches, cuts, ignores_syncs):
    folder, log = os.path.join(root, f"power-{kind}"), os.path.join(root, f"power-{kind}.log")
    record(binary, kind, folder, batches, log)
    events = list(parse(log, folder))
    first = next(at for at, event in enumerate(events) if event[0] == "output")
    dice = random.Random(10)
    failures = []
    points = sorted(dice.randrange(first, len(events)) for _ in range(cuts))
    disk, at, durable, expired = Disk(ignores_syncs), 0, 0, 0
    for point in points:
        while at < point:
            event = events[at]
            if event[0] == "output":
                for batch, minute in re.findall(r"batch (\d+) expired (\d+)", event[1]):
                    durable, expired = int(batch) + 1, int(minute)
            else:
                disk.apply(event)
            at += 1
        after = copy.deepcopy(disk)
        after.lose_power(dice)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        for file, data in after.files.items():
            with open(os.path.join(folder, file), "wb") as out:
                out.write(data)
        check = subprocess.run(
            [binary, "check-recorded", kind, folder, str(durable), str(expired)], capture_output=True, text=True)
        if check.returncode:
            failures.append((point, (check.stdout + check.stderr).strip().splitlines()[-1:]))
    shutil.rmtree(folder, ignore_errors=True)
    os.remove(log)
    print(f"{kind:13} {cuts} power losses among {len(events)} calls, {batches} commits: {len(failures)} failures")
    for point, lines in failures[:5]:
        print(f"    at call {point}: {' '.join(lines)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("folder")
    parser.add_argument("stores", nargs="*", default=["redb", "redb-2phase", "redb-quick", "redb-id",
                                                               "redb-id-quick", "sqlite", "sqlite-range", "journal"])
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--cuts", type=int, default=150)
    parser.add_argument("--ignore-syncs", action="store_true", help="a disk that lies, to show that losses are noticed")
    options = parser.parse_args()
    for kind in options.stores:
        trial(options.binary, kind, os.path.abspath(options.folder), options.batches, options.cuts, options.ignore_syncs)


if __name__ == "__main__":
    main()
