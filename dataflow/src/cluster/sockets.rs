//! The sockets of a run: from each process to each other, made by this module and timely's from then on.
//! Two processes of which neither is process 0 have a control link to each other besides, so that each of
//! a run hears whether each other lives.

use super::company::Company;
use super::door::{Claim, Come, Door, Keys, Purpose, knock};
use super::error::ClusterError;
use super::hosts::Place;
use super::line::Line;
use super::link::Links;
use super::wire::{RunNumber, Word};
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::{AllocatorBuilder, Hooks};

/// How long one attempt to connect may take.
const MOMENT: Duration = Duration::from_secs(2);
/// How often somebody who is not there is looked for.
pub(super) const AGAIN: Duration = Duration::from_millis(200);
/// How long those who wait may take to prepare and to connect.
pub(super) const PREPARE: Duration = Duration::from_secs(60);
/// How long one waits for the next who comes in before it looks whether all are still there.
pub(super) const LOOK: Duration = Duration::from_millis(5);

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
    door: &Door,
    mut links: Links,
    run: RunNumber,
    keys: &Keys,
) -> Result<Connected, ClusterError> {
    let until = Instant::now() + PREPARE;
    let lost = |process, reason: String| ClusterError::Lost { process, reason };
    let mut sockets: Vec<Option<Line>> = Vec::new();
    sockets.resize_with(place.processes(), || None);
    for (process, socket) in sockets.iter_mut().enumerate().take(place.process) {
        let reach = |purpose| {
            let process_here = u64::try_from(place.process).unwrap_or(u64::MAX);
            let claim = Claim {
                purpose,
                process: process_here,
                run,
            };
            loop {
                let host = &place.hosts[process];
                match knock(host, claim, None, keys) {
                    Ok(line) => return Ok(line),
                    Err(error) if Instant::now() >= until => {
                        return Err(lost(process, format!("{host}: {error}")));
                    }
                    Err(_) => all_live(&links, AGAIN)?,
                }
            }
        };
        *socket = Some(reach(Purpose::Data)?);
        if !links.has(process) {
            let pulse = reach(Purpose::Pulse)?;
            let added = links.add(process, pulse);
            added.map_err(|error| lost(process, error.to_string()))?;
        }
    }
    let behind = place.process + 1..place.processes();
    let is_there = |sockets: &[Option<Line>], links: &Links, process: usize| {
        sockets[process].is_some() && links.has(process)
    };
    while let Some(missing) = behind.clone().find(|n| !is_there(&sockets, &links, *n)) {
        if let Some(Come::OfRun(claim, line)) = door.next(LOOK)
            && claim.run == run
            && let Ok(process) = usize::try_from(claim.process)
            && behind.contains(&process)
        {
            match claim.purpose {
                Purpose::Data => sockets[process] = Some(line),
                // Process 0 has a control link to each.
                Purpose::Pulse if place.process > 0 => {
                    let added = links.add(process, line);
                    added.map_err(|error| lost(process, error.to_string()))?;
                }
                Purpose::Pulse | Purpose::Control => {}
            }
        }
        all_live(&links, Duration::ZERO)?;
        if Instant::now() >= until {
            let seconds = PREPARE.as_secs();
            return Err(lost(
                missing,
                format!("it has not connected within {seconds} s"),
            ));
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

/// Fails when a process is gone, or is heard to be within `patience`.
fn all_live(links: &Links, patience: Duration) -> Result<(), ClusterError> {
    match links.hear(patience) {
        Some((process, Ok(Word::Failed(reason)) | Err(reason))) => {
            Err(ClusterError::Lost { process, reason })
        }
        _ => Ok(()),
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
