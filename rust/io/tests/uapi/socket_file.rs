//! The socket file: made privately, never over a living instance, watched, and taken away at the end.

use super::fake::{ask, connect, is_over, serve, FakeDevice, Folder};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{channel, RecvTimeoutError};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;
use wgengine_io::uapi::{listen_in, socket_path, Server};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn the_file_is_for_its_owner_alone() {
    let folder = Folder::new();
    let directory = folder.path().join("run/wireguard");
    let (_listener, path) = listen_in(&directory, "wg0").unwrap();
    assert_eq!(path, directory.join("wg0.sock"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o022, 0, "only the owner writes here");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing but the socket is left");
}

#[test]
fn only_names_of_interfaces_are_taken() {
    let folder = Folder::new();
    for good in ["wg0", "a", "wg_=+.-9", "123456789012345", "...", "-"] {
        assert_eq!(socket_path(good).unwrap().to_str(), Some(&*format!("/var/run/wireguard/{good}.sock")));
    }
    for bad in ["", ".", "..", "1234567890123456", "wg 0", "wg/0", "../wg0", "wg0\0", "wg0\n", "wgé", "wg%d"] {
        let error = listen_in(folder.path(), bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad:?}");
        assert!(error.to_string().contains("interface name"), "{error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_living_instance_is_left_alone() {
    let folder = Folder::new();
    let (_server, path) = serve(&folder, FakeDevice::new());
    let error = listen_in(folder.path(), "wg0").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    assert_eq!(ask(&mut connect(&path), "get=1\n\n"), "errno=0\n\n");
}

#[test]
fn a_living_instance_too_busy_to_answer_is_left_alone() {
    let folder = Folder::new();
    let (listener, path) = listen_in(folder.path(), "wg0").unwrap();
    // SAFETY: the descriptor is open; listen takes no pointers.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    // The first attempts fill its queue, the others find it full.
    for _ in 0..5 {
        let error = listen_in(folder.path(), "wg0").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    }
    assert!(path.exists());
}

#[test]
fn a_dead_socket_makes_way() {
    let folder = Folder::new();
    let path = folder.path().join("wg0.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a listener leaves its file behind");
    let (_server, path) = serve(&folder, FakeDevice::new());
    assert_eq!(ask(&mut connect(&path), "get=1\n\n"), "errno=0\n\n");
}

#[test]
fn what_is_no_socket_is_not_removed() {
    let folder = Folder::new();
    let path = folder.path().join("wg0.sock");
    fs::write(&path, "precious").unwrap();
    assert_eq!(listen_in(folder.path(), "wg0").unwrap_err().raw_os_error(), Some(libc::EEXIST));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    symlink(&path, folder.path().join("wg1.sock")).unwrap();
    assert_eq!(listen_in(folder.path(), "wg1").unwrap_err().raw_os_error(), Some(libc::EEXIST));
}

#[test]
fn of_many_that_start_at_once_over_a_dead_socket_one_wins() {
    for _ in 0..20 {
        let folder = Folder::new();
        drop(UnixListener::bind(folder.path().join("wg0.sock")).unwrap());
        let start = Barrier::new(8);
        let results: Vec<_> = thread::scope(|scope| {
            let attempt = || {
                start.wait();
                listen_in(folder.path(), "wg0")
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(attempt)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (winners, losers): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(winners.len(), 1);
        let in_use = |loser: &std::io::Error| loser.raw_os_error() == Some(libc::EADDRINUSE);
        assert!(losers.iter().all(|loser| loser.as_ref().is_err_and(in_use)), "{losers:?}");
    }
}

/// Any user may lock a directory that any user may read.
#[test]
fn somebody_elses_lock_delays_but_does_not_stop() {
    let folder = Folder::new();
    let lock = File::open(folder.path()).unwrap();
    lock.lock().unwrap();
    let (server, path) = serve(&folder, FakeDevice::new());
    server.stop();
    assert!(!path.exists());
}

#[test]
fn stop_closes_connections_and_removes_the_file() {
    let folder = Folder::new();
    let (server, path) = serve(&folder, FakeDevice::new());
    let mut client = connect(&path);
    assert_eq!(ask(&mut client, "get=1\n\n"), "errno=0\n\n");
    server.stop();
    assert!(!path.exists());
    assert!(is_over(&mut client));
    // Dropping does the same.
    let (server, path) = serve(&folder, FakeDevice::new());
    drop(server);
    assert!(!path.exists());
}

#[test]
fn without_a_path_the_file_is_the_callers() {
    let folder = Folder::new();
    let (listener, path) = listen_in(folder.path(), "wg0").unwrap();
    let server = Server::start(listener, None, FakeDevice::new(), Box::new(|| ())).unwrap();
    assert_eq!(ask(&mut connect(&path), "get=1\n\n"), "errno=0\n\n");
    server.stop();
    assert!(path.exists());
}

#[test]
fn removal_replacement_and_renaming_are_told_once() {
    let remove: fn(&Path, &Path) = |path, _| fs::remove_file(path).unwrap();
    let replace: fn(&Path, &Path) = |path, other| {
        fs::write(other, "another instance's").unwrap();
        fs::rename(other, path).unwrap();
    };
    let rename: fn(&Path, &Path) = |path, other| {
        fs::rename(path, other).unwrap();
        thread::sleep(Duration::from_millis(50));
        // One more event of the file that is not there any more.
        fs::set_permissions(other, fs::Permissions::from_mode(0o660)).unwrap();
    };
    for (change, stays) in [(remove, false), (replace, true), (rename, false)] {
        let folder = Folder::new();
        let (told, hear) = channel();
        let (listener, path) = listen_in(folder.path(), "wg0").unwrap();
        let removed = Box::new(move || told.send(()).unwrap());
        let server = Server::start(listener, Some(path.clone()), FakeDevice::new(), removed).unwrap();
        let mut client = connect(&path);
        assert_eq!(ask(&mut client, "get=1\n\n"), "errno=0\n\n");
        assert_eq!(hear.recv_timeout(Duration::from_millis(200)), Err(RecvTimeoutError::Timeout));
        change(&path, &folder.path().join("other"));
        assert_eq!(hear.recv_timeout(SOON), Ok(()));
        assert_eq!(ask(&mut client, "get=1\n\n"), "errno=0\n\n", "who is connected is still served");
        server.stop();
        assert_eq!(path.exists(), stays, "what stands in our place is not ours to remove");
        assert_eq!(hear.try_iter().count(), 0);
    }
}

#[test]
fn a_change_of_mode_is_no_removal() {
    let folder = Folder::new();
    let (told, hear) = channel();
    let (listener, path) = listen_in(folder.path(), "wg0").unwrap();
    let removed = Box::new(move || told.send(()).unwrap());
    let _server = Server::start(listener, Some(path.clone()), FakeDevice::new(), removed).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
    assert_eq!(hear.recv_timeout(Duration::from_millis(300)), Err(RecvTimeoutError::Timeout));
    fs::remove_file(&path).unwrap();
    assert_eq!(hear.recv_timeout(SOON), Ok(()));
}

#[test]
fn the_callback_may_stop_the_server() {
    let folder = Folder::new();
    let (told, hear) = channel();
    let server: Arc<Mutex<Option<Server>>> = Arc::default();
    let (listener, path) = listen_in(folder.path(), "wg0").unwrap();
    let mine = server.clone();
    let removed = Box::new(move || {
        if let Some(server) = mine.lock().unwrap().take() {
            server.stop();
        }
        told.send(()).unwrap();
    });
    *server.lock().unwrap() = Some(Server::start(listener, Some(path.clone()), FakeDevice::new(), removed).unwrap());
    let mut client = connect(&path);
    fs::remove_file(&path).unwrap();
    assert_eq!(hear.recv_timeout(SOON), Ok(()));
    assert!(is_over(&mut client));
}
