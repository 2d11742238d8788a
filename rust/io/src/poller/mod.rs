//! What a data thread sleeps in: epoll on Linux, kqueue on macOS.

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod system;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod system;

pub use system::{Poller, Ready};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wake::Wake;
    use std::os::fd::AsRawFd;

    #[test]
    fn whoever_is_ready_is_told_by_its_token_until_it_is_quiet() {
        let poller = Poller::new().expect("poller");
        let (first, second, third) =
            (Wake::new().expect("wake"), Wake::new().expect("wake"), Wake::new().expect("wake"));
        poller.watch(first.as_raw_fd(), 7).expect("watch");
        poller.watch(second.as_raw_fd(), 8).expect("watch");
        let mut ready = Ready::default();
        let mut tokens = || {
            poller.wait(&mut ready).expect("wait");
            let mut tokens: Vec<u64> = ready.tokens().collect();
            tokens.sort_unstable();
            tokens
        };
        second.wake();
        assert_eq!(tokens(), [8]);
        first.wake();
        assert_eq!(tokens(), [7, 8], "level-triggered: the second was not cleared");
        second.clear();
        assert_eq!(tokens(), [7]);
        first.clear();
        third.wake();
        drop(second);
        poller.watch(third.as_raw_fd(), 9).expect("watch");
        assert_eq!(tokens(), [9], "a closed descriptor has left by itself");
    }
}
