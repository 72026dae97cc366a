//! Which process of how many this is, and where the others are.
//!
//! A hostfile has one `host:port` a line, in the order of the processes, as timely reads it: lines
//! behind the last process are left alone, so one file serves any number of processes up to its length.

use super::error::ClusterError;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

/// The first port on loopback, where no hostfile says otherwise.
const PORT: u16 = 2101;

/// A process among several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which, from 0.
    pub process: usize,
    /// Where each listens.
    pub hosts: Vec<String>,
}

impl Place {
    /// What the command line asks for; nothing where the job is one process.
    ///
    /// # Errors
    /// When it asks for what cannot be, or the hostfile does not hold.
    pub fn of(
        processes: Option<usize>,
        process: Option<usize>,
        hostfile: Option<&Path>,
    ) -> Result<Option<Self>, ClusterError> {
        let asked = |text: String| Err(ClusterError::Asked(text));
        let Some(processes) = processes else {
            return match (process, hostfile) {
                (None, None) => Ok(None),
                (Some(_), _) => asked("--process says which of several processes this is; say of how many with --processes".to_owned()),
                (None, Some(_)) => asked("--hostfile says where several processes are; say how many with --processes".to_owned()),
            };
        };
        if processes == 0 {
            return asked("a job is at least one process: --processes 1".to_owned());
        }
        let last = processes - 1;
        let process = match process {
            Some(process) if process >= processes => {
                return asked(format!(
                    "there is no process {process} of {processes}: they are --process 0 to --process {last}"
                ));
            }
            Some(process) => process,
            None if processes == 1 => 0,
            None => {
                return asked(format!(
                    "say which of the {processes} processes this is, --process 0 to --process {last}; `millrace \
                     cluster run` starts all of them on this machine"
                ));
            }
        };
        let hosts = match hostfile {
            Some(file) => read(file, processes)?,
            None => on_loopback(processes)?,
        };
        Ok((processes > 1).then_some(Self { process, hosts }))
    }

    /// How many processes there are.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.hosts.len()
    }

    /// A process that is elsewhere than on the loopback of this machine, if one is. Of a name nobody knows
    /// where it leads tomorrow, but for `localhost`.
    #[must_use]
    pub fn beyond_loopback(&self) -> Option<&str> {
        let is_loopback = |host: &str| {
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            let name = name.trim_start_matches('[').trim_end_matches(']');
            let address = name.parse::<IpAddr>();
            name == "localhost" || address.is_ok_and(|address| address.is_loopback())
        };
        let mut hosts = self.hosts.iter().map(String::as_str);
        hosts.find(|host| !is_loopback(host))
    }
}

fn on_loopback(processes: usize) -> Result<Vec<String>, ClusterError> {
    let host = |n: usize| {
        let port = u16::try_from(n).ok().and_then(|n| PORT.checked_add(n));
        port.map(|port| format!("127.0.0.1:{port}"))
    };
    let hosts: Option<Vec<String>> = (0..processes).map(host).collect();
    hosts.ok_or_else(|| ClusterError::Asked(format!("{processes} processes are too many")))
}

fn read(file: &Path, processes: usize) -> Result<Vec<String>, ClusterError> {
    let failed = |problem: String| ClusterError::Hostfile {
        file: file.to_owned(),
        problem,
    };
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let hosts: Vec<String> = lines.take(processes).map(str::to_owned).collect();
    if hosts.len() < processes {
        let found = hosts.len();
        return Err(failed(format!(
            "names {found} of {processes} processes; write one host:port a line"
        )));
    }
    let mut met = BTreeSet::new();
    for host in &hosts {
        let port = host
            .rsplit_once(':')
            .map(|(name, port)| (name, port.parse::<u16>()));
        if !matches!(port, Some((name, Ok(1..))) if !name.is_empty()) {
            return Err(failed(format!("{host:?} is no host:port")));
        }
        if !met.insert(host) {
            return Err(failed(format!("names {host} twice")));
        }
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(asked: Result<Option<Place>, ClusterError>) -> String {
        asked.unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hosts");
        let hosts = |text: &str| std::fs::write(&file, text).unwrap();
        assert!(said(Place::of(None, Some(1), None)).contains("--processes"));
        assert!(said(Place::of(None, None, Some(&file))).contains("--processes"));
        assert!(said(Place::of(Some(0), None, None)).contains("at least one"));
        assert!(said(Place::of(Some(2), None, None)).contains("--process 0 to --process 1"));
        assert!(said(Place::of(Some(2), Some(2), None)).contains("no process 2 of 2"));
        assert!(said(Place::of(Some(70_000), Some(2), None)).contains("too many"));
        assert!(said(Place::of(Some(2), Some(1), Some(&file))).contains("hosts"));
        hosts("a:1\n");
        assert!(said(Place::of(Some(2), Some(1), Some(&file))).contains("names 1 of 2"));
        hosts("a:1\nb\n");
        assert!(said(Place::of(Some(2), Some(1), Some(&file))).contains("\"b\" is no host:port"));
        hosts("a:1\nb:0\n");
        assert!(said(Place::of(Some(2), Some(1), Some(&file))).contains("no host:port"));
        hosts("a:1\na:1\n");
        assert!(said(Place::of(Some(2), Some(1), Some(&file))).contains("twice"));
    }

    #[test]
    fn processes_are_where_the_hostfile_says_or_on_loopback() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hosts");
        std::fs::write(&file, "a:1\nb:2\n\nc:3\n").unwrap();
        let place = Place::of(Some(2), Some(1), Some(&file)).unwrap().unwrap();
        assert_eq!(
            (place.process, place.hosts),
            (1, vec!["a:1".to_owned(), "b:2".to_owned()])
        );
        assert_eq!(Place::of(Some(1), Some(0), Some(&file)).unwrap(), None);
        assert_eq!(Place::of(None, None, None).unwrap(), None);
        let place = Place::of(Some(2), Some(0), None).unwrap().unwrap();
        assert_eq!(place.hosts, ["127.0.0.1:2101", "127.0.0.1:2102"]);
    }

    #[test]
    fn who_is_elsewhere_is_known() {
        let place = |hosts: &[&str]| Place {
            process: 0,
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        };
        let near = ["127.0.0.1:1", "localhost:2", "[::1]:3", "127.9.9.9:4"];
        assert_eq!(place(&near).beyond_loopback(), None);
        for far in [
            "millrace-0.millrace:2101",
            "10.0.0.1:1",
            "0.0.0.0:1",
            "[::]:1",
        ] {
            assert_eq!(place(&["127.0.0.1:1", far]).beyond_loopback(), Some(far));
        }
    }
}
