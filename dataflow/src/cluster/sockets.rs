//! The sockets of a run: from each process to each other, made by this module and timely's from then on.

use super::company::Company;
use super::link::{Links, SILENCE};
use super::wire::{self, Preface, RunNumber, read_preface};
use super::{ClusterError, Place};
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::{AllocatorBuilder, Hooks};

/// How long a preface, or one attempt to connect, may take.
pub(super) const MOMENT: Duration = Duration::from_secs(2);
/// How often somebody who is not there is looked for.
pub(super) const AGAIN: Duration = Duration::from_millis(200);
/// How long those who wait may take to prepare and to connect.
pub(super) const PREPARE: Duration = Duration::from_secs(60);

/// A process that is connected with all others.
pub struct Connected {
    /// What its workers are built from.
    pub builders: Vec<AllocatorBuilder>,
    /// Whoever sends and receives for them.
    pub threads: Box<dyn std::any::Any + Send>,
    /// The control links.
    pub links: Links,
    /// Who this process is.
    pub company: Company,
}

/// Connects a process with all others.
pub(super) fn connect(
    place: Place,
    workers: usize,
    listener: &TcpListener,
    links: Links,
    run: RunNumber,
) -> Result<Connected, ClusterError> {
    let until = Instant::now() + PREPARE;
    let ours = Preface::Data(run, u64::try_from(place.process).unwrap_or(u64::MAX));
    let mut sockets: Vec<Option<TcpStream>> = Vec::new();
    sockets.resize_with(place.processes(), || None);
    for (process, socket) in sockets.iter_mut().enumerate().take(place.process) {
        *socket = loop {
            let dialled = dial(&place.hosts[process]).and_then(|mut stream| {
                wire::write_preface(&mut stream, ours)?;
                Ok(stream)
            });
            match dialled {
                Ok(stream) => break Some(stream),
                Err(error) if Instant::now() >= until => {
                    let reason = format!("{}: {error}", place.hosts[process]);
                    return Err(ClusterError::Lost { process, reason });
                }
                Err(_) => std::thread::sleep(AGAIN),
            }
        };
    }
    let behind = place.process + 1;
    while let Some(process) = (behind..sockets.len()).find(|n| sockets[*n].is_none()) {
        let lost = |reason: String| ClusterError::Lost { process, reason };
        match accept(listener).map_err(|error| lost(error.to_string()))? {
            Some(stream) => {
                stream.set_read_timeout(Some(SILENCE)).ok();
                let of = read_preface(&mut &stream);
                stream.set_read_timeout(None).ok();
                if let Ok(Preface::Data(number, from)) = of
                    && number == run
                    && let Some(socket) = usize::try_from(from)
                        .ok()
                        .and_then(|n| sockets[behind..].get_mut(n.checked_sub(behind)?))
                {
                    *socket = Some(stream);
                }
            }
            None if Instant::now() >= until => {
                return Err(lost(format!(
                    "it has not connected within {} s",
                    PREPARE.as_secs()
                )));
            }
            None => {
                if let Some((process, Err(reason))) = links.hear(Duration::from_millis(2)) {
                    return Err(ClusterError::Lost { process, reason });
                }
            }
        }
    }
    let hooks = Hooks::default();
    let inner =
        ProcessBuilder::new_typed_vector(workers, hooks.refill.clone(), hooks.spill.clone());
    let built = initialize_networking_from_sockets(inner, sockets, place.process, workers, hooks);
    let (builders, threads) = built.map_err(|error| ClusterError::Missing(error.to_string()))?;
    Ok(Connected {
        builders: builders.into_iter().map(AllocatorBuilder::Tcp).collect(),
        threads: Box::new(threads),
        links,
        company: Company::of(place.process, place.processes(), workers),
    })
}

/// Listens where the hostfile says. Names may not be known yet where processes have just been started,
/// and an earlier process may still be ending.
pub(super) fn listen(place: &Place, until: Instant) -> Result<TcpListener, ClusterError> {
    let address = &place.hosts[place.process];
    let until = until.min(Instant::now() + PREPARE);
    loop {
        let listener = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        match listener {
            Ok(listener) => return Ok(listener),
            Err(source) if Instant::now() >= until || source.kind() == io::ErrorKind::AddrInUse => {
                return Err(ClusterError::Listen {
                    process: place.process,
                    address: address.clone(),
                    source,
                });
            }
            Err(_) => std::thread::sleep(AGAIN),
        }
    }
}

pub(super) fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => {
            stream.set_nonblocking(false)?;
            stream.set_nodelay(true)?;
            Ok(Some(stream))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn dial(host: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::other("has no address");
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, MOMENT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
