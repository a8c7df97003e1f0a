//! The edge to tokio's reactor: the one place that promises it that descriptors live as long as
//! their registration.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that is known to stay open, and the same, while its owner lives.
pub(crate) trait Steady: AsRawFd + private::Sealed {}

mod private {
    pub(crate) trait Sealed {}
    impl Sealed for super::EpollFd {}
    impl Sealed for devicemapper::DM {}
    impl Sealed for udev::MonitorSocket {}
}

/// An epoll instance. As a descriptor it is readable while any of its own files is ready.
#[derive(Debug)]
pub(crate) struct EpollFd(pub(crate) Epoll);

impl EpollFd {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }
}

impl AsRawFd for EpollFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

impl Steady for EpollFd {}
impl Steady for devicemapper::DM {}
impl Steady for udev::MonitorSocket {}

/// Asks the running reactor to tell when `inner` is readable.
pub(crate) fn readable<T: Steady>(inner: T) -> io::Result<AsyncFd<T>> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(io::Error::other("hints need a tokio runtime"));
    }
    // SAFETY: all types that are `Steady` (the trait is sealed) own one descriptor that they open
    // when they are made, close when they are dropped, and never change; the `AsyncFd` owns them.
    unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) }.map_err(io::Error::from)
}
