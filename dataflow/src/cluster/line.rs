//! A connection between two processes, as timely and the control links use it: one thread reads, others
//! write, and where the cluster has certificates what goes over it is encrypted.

use rustls::Connection;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use timely::communication::allocator::zero_copy::stream::Stream;

/// Bytes taken from a socket at a time.
const PIECE: usize = 1 << 16;

/// A connection between two processes.
pub(super) type Line = Over<TcpStream>;

/// What goes over a socket, encrypted where there is a session.
#[derive(Debug)]
pub(super) struct Over<S> {
    pub(super) socket: S,
    pub(super) session: Option<Arc<Session>>,
}

impl<S: Read> Read for Over<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.session {
            Some(session) => session.read(buffer, &mut self.socket),
            None => self.socket.read(buffer),
        }
    }
}

impl<S: Write> Write for Over<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.session {
            Some(session) => session.write(bytes, &mut self.socket),
            None => self.socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Line {
    /// How long each read and each write may wait.
    pub(super) fn limit(&self, patience: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(patience)?;
        self.socket.set_write_timeout(patience)
    }
}

impl Stream for Line {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            socket: self.socket.try_clone()?,
            session: self.session.clone(),
        })
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(nonblocking)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        // Where both ways are shut nobody reads a farewell, and nobody is kept waiting by one.
        if let (Some(session), Shutdown::Write) = (&self.session, how) {
            session.end(&mut &self.socket)?;
        }
        self.socket.shutdown(how)
    }
}

/// The TLS of a connection. Whoever waits for the socket holds nothing that the other way needs: a process
/// that reads and is slow to write, or the other way round, still does both.
#[derive(Debug)]
pub(super) struct Session {
    connection: Mutex<Connection>,
    /// What has come and is not decrypted.
    comes: Mutex<(Vec<u8>, Range<usize>)>,
    /// What is encrypted and not sent, in its order.
    goes: Mutex<Vec<u8>>,
}

impl Session {
    /// One whose ends have agreed.
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection: Mutex::new(connection),
            comes: Mutex::new((vec![0; PIECE], 0..0)),
            goes: Mutex::default(),
        }
    }

    fn read(&self, buffer: &mut [u8], from: &mut impl Read) -> io::Result<usize> {
        let mut comes = held(&self.comes);
        let (come, rest) = &mut *comes;
        loop {
            let mut connection = held(&self.connection);
            match connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            if rest.start == rest.end {
                drop(connection);
                *rest = 0..from.read(come)?;
                connection = held(&self.connection);
            }
            // Of nothing, which is the end of the connection, it reads that.
            rest.start += connection.read_tls(&mut &come[rest.clone()])?;
            let processed = connection.process_new_packets();
            processed.map_err(io::Error::other)?;
        }
    }

    fn write(&self, bytes: &[u8], to: &mut impl Write) -> io::Result<usize> {
        let mut goes = held(&self.goes);
        // What an attempt before this one has left.
        send(&mut goes, to)?;
        let mut connection = held(&self.connection);
        let taken = connection.writer().write(bytes)?;
        encrypted(&mut connection, &mut goes)?;
        drop(connection);
        send(&mut goes, to)?;
        Ok(taken)
    }

    /// Tells the other end that nothing more comes.
    fn end(&self, to: &mut impl Write) -> io::Result<()> {
        let mut goes = held(&self.goes);
        let mut connection = held(&self.connection);
        connection.send_close_notify();
        encrypted(&mut connection, &mut goes)?;
        drop(connection);
        send(&mut goes, to)
    }
}

fn encrypted(connection: &mut Connection, goes: &mut Vec<u8>) -> io::Result<()> {
    while connection.wants_write() {
        connection.write_tls(goes)?;
    }
    Ok(())
}

fn send(goes: &mut Vec<u8>, to: &mut impl Write) -> io::Result<()> {
    while !goes.is_empty() {
        match to.write(goes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => drop(goes.drain(..sent)),
            // Whoever is told of this one writes the same again, which is taken already.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in the middle of it ends the process.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A socket that is given up at one moment, however little comes how often.
#[derive(Debug)]
pub(super) struct Until<'s>(pub(super) &'s TcpStream, pub(super) Instant);

impl Until<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.1.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(Some(left)),
        }
    }

    /// The first byte that comes, which stays to be read.
    pub(super) fn peek(&self) -> io::Result<Option<u8>> {
        self.0.set_read_timeout(self.left()?)?;
        let mut first = [0];
        let come = self.0.peek(&mut first)?;
        Ok((come > 0).then_some(first[0]))
    }
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.set_read_timeout(self.left()?)?;
        self.0.read(buffer)
    }
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.set_write_timeout(self.left()?)?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
