//! Passes open files with their names from one process to another, over a Unix stream.
//!
//! A line of text, `capgate-files 1 NAME…`, carries the files as ancillary data, in the order of their names (unix(7)).

use std::io::{self, Error, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// Beginning of the line. The number changes if a process of this version cannot take over from an earlier one.
const GREETING: &str = "capgate-files 1";
/// Most files: each listener, the control socket, and files of other parts.
const FILES_MAX: usize = 16;
/// Most bytes of the line.
const LINE_BYTES_MAX: usize = 1_024;

/// An open file with a name.
pub type NamedFile = (String, OwnedFd);

/// Sends files. Their names must not contain white space.
///
/// # Errors
/// If the other process is gone, or there are too many files.
pub(super) fn send(stream: &UnixStream, files: &[NamedFile]) -> io::Result<()> {
    let names: Vec<&str> = files.iter().map(|(name, _)| &**name).collect();
    let line = format!("{GREETING} {}\n", names.join(" "));
    let descriptors: Vec<BorrowedFd> = files.iter().map(|(_, file)| file.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = descriptors.len() <= FILES_MAX && line.len() <= LINE_BYTES_MAX;
    if !fits || !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Error::new(ErrorKind::InvalidInput, "too many files to pass on"));
    }
    let sent = sendmsg(stream, &[IoSlice::new(line.as_bytes())], &mut control, SendFlags::empty())?;
    if sent == line.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
}

/// Receives files.
///
/// # Errors
/// If the other process is gone, or is none that passes on files.
pub(super) fn receive(stream: &impl AsFd) -> io::Result<Vec<NamedFile>> {
    let foreign = || Error::new(ErrorKind::InvalidData, "no capgate that passes on its files");
    let mut line = [0; LINE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut line)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            files.extend(descriptors);
        }
    }
    let line = line.get(..received.bytes).and_then(|line| std::str::from_utf8(line).ok()).ok_or_else(foreign)?;
    let names = line.strip_prefix(GREETING).and_then(|rest| rest.strip_suffix('\n')).ok_or_else(foreign)?;
    let names: Vec<&str> = names.split_whitespace().collect();
    if names.len() != files.len() {
        return Err(foreign());
    }
    Ok(names.into_iter().map(str::to_owned).zip(files).collect())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn files_arrive_open_and_with_their_names() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("an address");
        let (mut near, far) = UnixStream::pair().expect("a pair");
        send(&ours, &[("http".to_owned(), socket.into()), ("other".to_owned(), far.into())]).expect("sent");
        let mut files = receive(&theirs).expect("files").into_iter();
        let (name, file) = files.next().expect("two files");
        assert_eq!((&*name, TcpListener::from(file).local_addr().expect("bound")), ("http", address));
        let (name, file) = files.next().expect("two files");
        near.write_all(b"hello").expect("open");
        let mut text = [0; 5];
        UnixStream::from(file).read_exact(&mut text).expect("open");
        assert_eq!((&*name, &text), ("other", b"hello"));
    }

    #[test]
    fn other_senders_are_refused() {
        for text in ["", "GET / HTTP/1.1\r\n", "capgate-files 2 \n", "capgate-files 1 http\n", "capgate-files 1 "] {
            let (mut ours, theirs) = UnixStream::pair().expect("a pair");
            ours.write_all(text.as_bytes()).expect("written");
            drop(ours);
            assert_eq!(receive(&theirs).expect_err("refused").kind(), ErrorKind::InvalidData, "{text:?}");
        }
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        let file = || UnixStream::pair().expect("a pair").0.into();
        let many: Vec<NamedFile> = (0..=FILES_MAX).map(|number| (number.to_string(), file())).collect();
        assert_eq!(send(&ours, &many).expect_err("refused").kind(), ErrorKind::InvalidInput);
    }
}
