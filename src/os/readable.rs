//! Waiting for what a descriptor has to tell, for those who may not have a runtime watch one themselves.
//!
//! Invariant: the descriptor is this one's own, and stays open as long as it is watched.

use crate::sys::watch_readable;
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// A descriptor of which the runtime tells when it is readable.
#[derive(Debug)]
pub struct Readable(AsyncFd<OwnedFd>);

impl Readable {
    /// Has it watched. To be called within a runtime.
    ///
    /// # Errors
    /// When there is no room for one more.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        watch_readable(fd).map(Readable)
    }

    /// Waits until it is readable and `read`, which must not block, has something; `None` = there was nothing after all.
    ///
    /// # Errors
    /// What `read` says, or the runtime.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is awaited after `read` had something.
    pub async fn next<R>(&self, mut read: impl FnMut() -> io::Result<Option<R>>) -> io::Result<R> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Some(found) = read()? {
                return Ok(found);
            }
            ready.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[tokio::test]
    async fn it_waits_until_there_is_something() {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let watched = Readable::new(reader.try_clone().unwrap().into()).unwrap();
        let mut byte = [0];
        for sent in [7, 8] {
            writer.write_all(&[sent]).unwrap();
            let read = || reader.read(&mut byte).map(|_| Some(()));
            watched.next(read).await.unwrap();
            assert_eq!(byte, [sent]);
        }
        let mut looks = 0;
        let nothing = watched.next(|| {
            looks += 1;
            Ok(None::<()>)
        });
        let waited = tokio::time::timeout(std::time::Duration::from_millis(50), nothing).await;
        assert!(waited.is_err());
        assert!(looks <= 2, "it does not spin");
    }
}
