//! Who comes in, and how one comes in elsewhere: a connection begins with a greeting, in which both ends
//! prove that they have the secret of the cluster.
//!
//! ```text
//!  who knocks                                     whose door it is
//!    mark, what for, process, run, nonce ─────────►
//!    ◄───────────────── nonce, proof over all of that
//!    proof over the same, the hello of a process ─►
//!    ◄──────────────────────────────────── welcome
//! ```
//!
//! Where the cluster has certificates, all of that is said over TLS, whose own greeting comes first.
//!
//! Anybody can connect, say nothing, or say it slowly. So each greeting has a thread of its own and one
//! deadline, whatever comes; when there are too many of them, the oldest is shown out: one who is of the
//! cluster needs a moment, and comes again. Nothing that a stranger does, and no want of threads or file
//! descriptors, is an error of whoever waits behind the door.

use super::line::{Line, Over, Session, Until};
use super::secret::{Nonce, PROOF, Secret, draw};
use super::sockets::dial;
use super::tls::{ALL_OR_NONE, Tls};
use super::wire::{self, Hello, RunNumber, Word, take};
use std::collections::VecDeque;
use std::io::{self, Read, Write as _};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a greeting may take.
const GREETING: Duration = Duration::from_secs(5);
/// Greetings at a time.
const GREETINGS: usize = 64;
/// How often the door is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Until somebody is let in again when the system could not.
const BREATH: Duration = Duration::from_millis(50);

const MARK: &[u8; 8] = b"millrace";
/// How one begins who speaks TLS.
const TLS_MARK: [u8; 2] = [22, 3];
const WELCOME: [u8; 1] = [6];
/// Who proves: what one end has proved is of no use at the other.
const KNOCKS: u8 = 1;
const OPENS: u8 = 2;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A process reports to process 0.
    Control,
    /// The dataflow of a run.
    Data,
    /// Two processes of a run, neither of them process 0, hear that the other lives.
    Pulse,
}

const PURPOSES: [(u8, Purpose); 3] = [
    (3, Purpose::Control),
    (4, Purpose::Data),
    (5, Purpose::Pulse),
];

/// What one who knocks says of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) purpose: Purpose,
    /// From which process.
    pub(super) process: u64,
    /// Of which run; of none where a process reports.
    pub(super) run: RunNumber,
}

impl Claim {
    fn bytes(self) -> Vec<u8> {
        let mut numbers = PURPOSES.iter();
        let number = numbers.find_map(|(n, purpose)| (*purpose == self.purpose).then_some(*n));
        let mut bytes = MARK.to_vec();
        bytes.extend(number);
        bytes.extend(self.process.to_le_bytes());
        bytes.extend(self.run);
        bytes
    }

    fn read(stream: &mut impl Read) -> io::Result<Self> {
        if take::<8>(stream)? != *MARK {
            return Err(io::Error::other("is no connection of millrace"));
        }
        let [number] = take(stream)?;
        let mut purposes = PURPOSES.iter();
        let purpose = purposes.find_map(|(n, purpose)| (*n == number).then_some(*purpose));
        Ok(Self {
            purpose: purpose.ok_or_else(|| io::Error::other("is of another version"))?,
            process: u64::from_le_bytes(take(stream)?),
            run: take(stream)?,
        })
    }
}

/// What a proof is over.
fn said(by: u8, claim: Claim, knocks: &Nonce, opens: &Nonce) -> Vec<u8> {
    let mut said = vec![by];
    said.extend(claim.bytes());
    said.extend(knocks);
    said.extend(opens);
    said
}

/// What tells the processes of a cluster from strangers.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    pub(super) secret: Secret,
    pub(super) tls: Option<Tls>,
}

/// Comes in at another process, with a `hello` where one reports.
pub(super) fn knock(
    host: &str,
    claim: Claim,
    hello: Option<Hello>,
    keys: &Keys,
) -> io::Result<Line> {
    let stream = dial(host)?;
    let until = Instant::now() + GREETING;
    let said_nothing = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => io::Error::other(format!(
            "it closed the connection without an answer; if one end speaks TLS and the other does not, \
             {ALL_OR_NONE}"
        )),
        _ => error,
    };
    // The other end says what it has against a certificate when this one waits for what comes next.
    let refused = |error: io::Error| {
        let refusal = keys.tls.as_ref().and_then(|tls| tls.refusal(&error));
        refusal.map_or_else(
            || said_nothing(error),
            |said| io::Error::other(format!("it {said}")),
        )
    };
    let tls = keys.tls.as_ref();
    let session = tls.map(|tls| tls.knock(host, &mut Until(&stream, until)));
    let session = session.transpose().map_err(refused)?.map(Arc::new);
    let mut line = Over {
        socket: Until(&stream, until),
        session,
    };
    let ours: Nonce = draw()?;
    let first = line.write_all(&[claim.bytes(), ours.to_vec()].concat());
    let theirs: Nonce = first.and_then(|()| take(&mut line)).map_err(refused)?;
    let proof: [u8; PROOF] = take(&mut line)?;
    let secret = &keys.secret;
    if !secret.is_proved(&said(OPENS, claim, &ours, &theirs), &proof) {
        return Err(io::Error::other(
            "it does not prove that it has the same secret; give all processes the same",
        ));
    }
    let mut last = secret.prove(&said(KNOCKS, claim, &ours, &theirs)).to_vec();
    if let Some(hello) = hello {
        last.extend(wire::bytes(&Word::Hello(hello))?);
    }
    line.write_all(&last)?;
    if take::<1>(&mut line)? != WELCOME {
        return Err(io::Error::other("is of another version"));
    }
    let session = line.session;
    at_leisure(stream, session)
}

/// A connection that no deadline ends any more.
fn at_leisure(socket: TcpStream, session: Option<Arc<Session>>) -> io::Result<Line> {
    let line = Over { socket, session };
    line.limit(None)?;
    Ok(line)
}

/// Who came in.
pub(super) enum Come {
    /// A process that reports.
    Reports(Hello, Line),
    /// A connection of a run.
    OfRun(Claim, Line),
    /// Nobody, but somebody at this address began as processes do; and why it is none of this cluster.
    Refused(IpAddr, String),
}

/// Greetings under way, the oldest first, by number.
type Greetings = Arc<Mutex<VecDeque<(u64, Arc<TcpStream>)>>>;

fn held(greetings: &Greetings) -> MutexGuard<'_, VecDeque<(u64, Arc<TcpStream>)>> {
    // One is put in or taken out whole.
    greetings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where others come in, as long as it is held.
pub(super) struct Door {
    come: Receiver<Come>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    /// Opens a door where something listens, which must not block.
    ///
    /// # Errors
    /// When the system starts no thread.
    pub(super) fn open(listener: TcpListener, keys: &Keys) -> io::Result<Self> {
        let (tell, come) = channel();
        let over = Arc::new(AtomicBool::new(false));
        let (ends, keys) = (Arc::clone(&over), keys.clone());
        let stand = move || {
            let greetings = Greetings::default();
            for number in 0.. {
                let stream = loop {
                    if ends.load(Ordering::Relaxed) {
                        return;
                    }
                    match listener.accept() {
                        Ok((stream, _)) => break stream,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            std::thread::sleep(LOOK);
                        }
                        Err(_) => std::thread::sleep(BREATH),
                    }
                };
                greet(number, stream, &greetings, &keys, &tell);
            }
        };
        let thread = std::thread::Builder::new().name("door".to_owned());
        Ok(Self {
            come,
            over,
            thread: Some(thread.spawn(stand)?),
        })
    }

    /// The next who came in; nobody within `patience`.
    pub(super) fn next(&self, patience: Duration) -> Option<Come> {
        self.come.recv_timeout(patience).ok()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // It only listens, and does so no more.
        self.thread.take().map(|thread| thread.join().ok());
    }
}

/// Greets one who has connected, on a thread of its own.
fn greet(number: u64, stream: TcpStream, greetings: &Greetings, keys: &Keys, tell: &Sender<Come>) {
    let stream = Arc::new(stream);
    let mut under_way = held(greetings);
    if under_way.len() >= GREETINGS
        && let Some((_, oldest)) = under_way.pop_front()
    {
        oldest.shutdown(Shutdown::Both).ok();
    }
    under_way.push_back((number, Arc::clone(&stream)));
    drop(under_way);
    let (all, keys, tell) = (Arc::clone(greetings), keys.clone(), tell.clone());
    let greeting = move || {
        let until = Instant::now() + GREETING;
        let from = stream.peer_addr();
        let outcome = prove(&stream, until, &keys);
        let place = {
            let mut under_way = held(&all);
            let place = under_way.iter().position(|(n, _)| *n == number);
            place.and_then(|place| under_way.remove(place))
        };
        let is_of_the_cluster = place.is_some();
        drop(place);
        match (outcome, Arc::into_inner(stream), from) {
            (Ok((greeted, session)), Some(stream), _) if is_of_the_cluster => {
                let mut line = Over {
                    socket: Until(&stream, until),
                    session,
                };
                let welcome = line.write_all(&WELCOME);
                let session = line.session;
                let line = welcome.and_then(|()| at_leisure(stream, session));
                // One who is not told comes again; so does one whom nobody waits for any more.
                if let Ok(line) = line {
                    tell.send(greeted.with(line)).ok();
                }
            }
            (Err(Stranger::Refused(reason)), _, Ok(from)) => {
                tell.send(Come::Refused(from.ip(), reason)).ok();
            }
            _ => {}
        }
    };
    let thread = std::thread::Builder::new().name("greeting".to_owned());
    if thread.spawn(greeting).is_err() {
        held(greetings).retain(|(n, _)| *n != number);
    }
}

/// Who has proved to be of the cluster.
struct Greeted(Claim, Option<Hello>);

impl Greeted {
    fn with(self, line: Line) -> Come {
        match self.1 {
            Some(hello) => Come::Reports(hello, line),
            None => Come::OfRun(self.0, line),
        }
    }
}

/// Who has not.
enum Stranger {
    /// It said something else, or nothing.
    Other,
    /// It began as a process does; and why it is none of this cluster.
    Refused(String),
}

impl From<io::Error> for Stranger {
    fn from(_: io::Error) -> Self {
        Self::Other
    }
}

fn prove(
    stream: &TcpStream,
    until: Instant,
    keys: &Keys,
) -> Result<(Greeted, Option<Arc<Session>>), Stranger> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let refused = |reason: &str| Stranger::Refused(reason.to_owned());
    let mut until = Until(stream, until);
    let speaks_tls = until.peek()? == Some(TLS_MARK[0]);
    let session = match &keys.tls {
        Some(tls) if speaks_tls => {
            let agreed = tls.open(&mut until).map_err(|error| {
                let refusal = tls.refusal(&error);
                refusal.map_or(Stranger::Other, Stranger::Refused)
            })?;
            Some(Arc::new(agreed))
        }
        Some(_) => {
            let is_process = take::<8>(&mut until)? == *MARK;
            return Err(match is_process {
                true => refused(&format!("does not speak TLS; {ALL_OR_NONE}")),
                false => Stranger::Other,
            });
        }
        None if speaks_tls => {
            let is_tls = take::<2>(&mut until)? == TLS_MARK;
            return Err(match is_tls {
                true => refused(&format!(
                    "speaks TLS, and this process does not; {ALL_OR_NONE}"
                )),
                false => Stranger::Other,
            });
        }
        None => None,
    };
    let mut line = Over {
        socket: until,
        session,
    };
    let claim = Claim::read(&mut line)?;
    let theirs: Nonce = take(&mut line)?;
    let ours: Nonce = draw()?;
    let secret = &keys.secret;
    let proof = secret.prove(&said(OPENS, claim, &theirs, &ours));
    line.write_all(&[ours, proof].concat())?;
    let unproved = || {
        refused("does not prove to have the secret of this cluster; give all processes the same")
    };
    let proof: [u8; PROOF] = take(&mut line).map_err(|_| unproved())?;
    if !secret.is_proved(&said(KNOCKS, claim, &theirs, &ours), &proof) {
        return Err(unproved());
    }
    let hello = match claim.purpose {
        Purpose::Control => match wire::read(&mut line)? {
            Word::Hello(hello) => Some(hello),
            _ => return Err(Stranger::Other),
        },
        Purpose::Data | Purpose::Pulse => None,
    };
    Ok((Greeted(claim, hello), line.session))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn secret(text: &str) -> Keys {
        let secret = Some(format!("{text} of this test alone").into());
        Keys {
            secret: Secret::of(secret, None).unwrap(),
            tls: None,
        }
    }

    fn door(keys: &Keys) -> (Door, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        (Door::open(listener, keys).unwrap(), host)
    }

    fn claim(purpose: Purpose) -> Claim {
        Claim {
            purpose,
            process: 2,
            run: [7; 16],
        }
    }

    fn hello() -> Hello {
        Hello {
            process: 2,
            processes: 3,
            workers: 1,
            program: "p".to_owned(),
            job: "j".to_owned(),
        }
    }

    #[test]
    fn one_who_has_the_secret_comes_in() {
        let (door, host) = door(&secret("one"));
        let mut stream = knock(&host, claim(Purpose::Data), None, &secret("one")).unwrap();
        let Some(Come::OfRun(said, mut theirs)) = door.next(PATIENCE) else {
            panic!("it is a connection of a run");
        };
        assert_eq!(said, claim(Purpose::Data));
        stream.write_all(b"x").unwrap();
        assert_eq!(take::<1>(&mut theirs).unwrap(), *b"x");
        let stream = knock(
            &host,
            claim(Purpose::Control),
            Some(hello()),
            &secret("one"),
        );
        let Some(Come::Reports(said, _)) = door.next(PATIENCE) else {
            panic!("it reports");
        };
        assert_eq!((said, stream.is_ok()), (hello(), true));
        drop(door);
        assert!(TcpStream::connect(host).is_err());
    }

    #[test]
    fn one_who_has_another_or_none_does_not() {
        for (theirs, ours) in [
            (secret("one"), secret("other")),
            (Keys::default(), secret("other")),
            (secret("one"), Keys::default()),
        ] {
            let (door, host) = door(&theirs);
            let refused = knock(&host, claim(Purpose::Pulse), None, &ours);
            let said = refused.unwrap_err().to_string();
            assert!(said.contains("the same secret"), "{said}");
            assert!(matches!(door.next(PATIENCE), Some(Come::Refused(..))));
        }
    }

    #[test]
    fn what_was_overheard_opens_no_door() {
        for secret in [secret("one"), Keys::default()] {
            let (door, host) = door(&secret);
            let through = TcpListener::bind("127.0.0.1:0").unwrap();
            let proxy = through.local_addr().unwrap().to_string();
            // Somebody on the way, who notes what one who knocks says.
            let overhear = std::thread::spawn(move || {
                let (mut inside, _) = through.accept().unwrap();
                let mut outside = TcpStream::connect(host).unwrap();
                let mut overheard = Vec::new();
                for (said, answered) in [(65, 64), (32, 1)] {
                    let mut bytes = vec![0; said];
                    inside.read_exact(&mut bytes).unwrap();
                    outside.write_all(&bytes).unwrap();
                    overheard.extend(bytes);
                    let mut bytes = vec![0; answered];
                    outside.read_exact(&mut bytes).unwrap();
                    inside.write_all(&bytes).unwrap();
                }
                (outside.peer_addr().unwrap(), overheard)
            });
            knock(&proxy, claim(Purpose::Data), None, &secret).unwrap();
            let (host, overheard) = overhear.join().unwrap();
            assert!(matches!(door.next(PATIENCE), Some(Come::OfRun(..))));
            let mut again = TcpStream::connect(host).unwrap();
            again.write_all(&overheard).unwrap();
            assert!(matches!(door.next(PATIENCE), Some(Come::Refused(..))));
        }
    }

    #[test]
    fn the_silent_and_the_slow_keep_nobody_out() {
        let (door, host) = door(&Keys::default());
        let silent: Vec<TcpStream> = (0..3 * GREETINGS)
            .map(|_| TcpStream::connect(&host).unwrap())
            .collect();
        let begun = Instant::now();
        knock(&host, claim(Purpose::Data), None, &Keys::default()).unwrap();
        assert!(matches!(door.next(PATIENCE), Some(Come::OfRun(..))));
        assert!(begun.elapsed() < GREETING, "{:?}", begun.elapsed());
        // The oldest were shown out, and the others are when their time is over, whatever they say.
        let mut slow = silent.last().unwrap();
        let said = claim(Purpose::Data).bytes().into_iter();
        for byte in said.chain(std::iter::repeat(0)) {
            if slow.write_all(&[byte]).is_err() {
                break;
            }
            assert!(begun.elapsed() < 2 * GREETING, "a slow one is borne with");
            std::thread::sleep(Duration::from_millis(200));
        }
        for mut stream in &silent {
            let over = stream.read(&mut [0; 1]);
            assert!(matches!(over, Ok(0) | Err(_)), "{over:?}");
        }
        assert!(door.next(Duration::ZERO).is_none());
    }

    #[test]
    fn what_others_say_is_no_claim() {
        let read = |bytes: &[u8]| Claim::read(&mut &*bytes);
        assert!(read(b"GET / HTTP/1.1\r\n\r\n").is_err());
        assert!(read(b"millrace").is_err());
        assert!(read(b"millrace\x01 and what a version before this one said").is_err());
        let bytes = claim(Purpose::Data).bytes();
        assert_eq!(read(&bytes).unwrap(), claim(Purpose::Data));
        assert!(read(&bytes[..bytes.len() - 1]).is_err());
    }
}
