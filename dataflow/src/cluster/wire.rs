//! What processes say to each other besides the dataflow.
//!
//! A connection begins with a preface: a mark, and what it is for. A control link goes on with words,
//! each a length and a value; a socket of the dataflow with the number of the run and of the process
//! that opened it, and is timely's from then on.

use crate::graph::Resume;
use millrace_operators::epoch::Epoch;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::net::TcpStream;

const MARK: &[u8; 8] = b"millrace";
const CONTROL: u8 = 1;
const DATA: u8 = 2;
/// No word is longer.
const LONGEST: u32 = 1 << 20;

/// The number of a run: what was opened for another is not of this one.
pub(super) type RunNumber = [u8; 16];

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preface {
    /// Words.
    Control,
    /// The dataflow of a run, from a process.
    Data(RunNumber, u64),
}

/// What a process tells of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) process: u64,
    pub(super) processes: u64,
    pub(super) workers: u64,
    /// The digest of the program.
    pub(super) program: String,
    /// The digest of the job file.
    pub(super) job: String,
}

/// How the run goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Go {
    /// The number of the run.
    pub(super) run: RunNumber,
    /// See [`Resume`].
    pub(super) live: Epoch,
    pub(super) told: Epoch,
    /// An object that all must see among the outputs.
    pub(super) mark: Option<String>,
    /// What the names of outputs have in them.
    pub(super) tag: Option<String>,
}

impl Go {
    /// Where an earlier run ended.
    #[must_use]
    pub fn resume(&self) -> Resume {
        Resume {
            live: self.live,
            told: self.told,
            ..Resume::default()
        }
    }

    /// What the names of outputs have in them, where epochs are made durable.
    #[must_use]
    pub fn tag(&self) -> Option<String> {
        self.tag.clone()
    }

    /// The name of an object that process 0 has put among the outputs, and its content, where all
    /// processes write there.
    #[must_use]
    pub fn mark(&self) -> Option<(&str, &[u8])> {
        self.mark.as_deref().map(|name| (name, self.run.as_slice()))
    }
}

/// A word on a control link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Word {
    /// To process 0: here I am.
    Hello(Hello),
    /// From process 0: not with me, and why.
    Refused(String),
    /// From process 0: prepare this run.
    Go(Go),
    /// To process 0: prepared.
    Ready,
    /// From process 0: everybody is; connect.
    Begin,
    /// I live. From process 0 with the first epoch that is not bound yet.
    Alive(Epoch),
    /// To process 0: I was told to end; end the job in good order.
    End,
    /// I end, because of this.
    Failed(String),
    /// My part is done.
    Bye,
}

pub(super) fn write_preface(stream: &mut impl Write, preface: Preface) -> io::Result<()> {
    stream.write_all(MARK)?;
    match preface {
        Preface::Control => stream.write_all(&[CONTROL]),
        Preface::Data(run, process) => {
            stream.write_all(&[DATA])?;
            stream.write_all(&run)?;
            stream.write_all(&process.to_le_bytes())
        }
    }
}

pub(super) fn read_preface(stream: &mut impl Read) -> io::Result<Preface> {
    if take::<8>(stream)? != *MARK {
        return Err(io::Error::other("is no connection of millrace"));
    }
    match take(stream)? {
        [CONTROL] => Ok(Preface::Control),
        [DATA] => Ok(Preface::Data(
            take(stream)?,
            u64::from_le_bytes(take(stream)?),
        )),
        [_] => Err(io::Error::other("is of another version")),
    }
}

pub(super) fn write(mut stream: &TcpStream, word: &Word) -> io::Result<()> {
    let content = bincode::serialize(word).map_err(io::Error::other)?;
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(&content);
    stream.write_all(&bytes)
}

pub(super) fn read(stream: &mut impl Read) -> io::Result<Word> {
    let length = u32::from_le_bytes(take(stream)?);
    if length > LONGEST {
        return Err(io::Error::other("is of another version"));
    }
    let mut content = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut content)?;
    bincode::deserialize(&content).map_err(io::Error::other)
}

fn take<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_no_preface() {
        let read = |bytes: &[u8]| read_preface(&mut &*bytes);
        assert!(read(b"GET / HTTP/1.1\r\n\r\n").is_err());
        assert!(read(b"millrace").is_err());
        assert!(read(b"millrace\x07").is_err());
        let mut bytes = Vec::new();
        write_preface(&mut bytes, Preface::Data([7; 16], 3)).unwrap();
        assert_eq!(read(&bytes).unwrap(), Preface::Data([7; 16], 3));
        assert!(read(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn a_word_that_is_too_long_is_not_read() {
        assert!(super::read(&mut &[255_u8; 64][..]).is_err());
    }
}
