//! TLS between the processes of a cluster: what the files of certificates say, and what becomes of a
//! connection of which one end does not accept the other.
//!
//! Each end shows a certificate that the cluster's CA has signed, and the one that is called one for the
//! host by which it is called. It is TLS 1.3 alone, and no session is taken up again: each connection
//! proves everything anew.

use super::error::ClusterError;
use super::line::{Session, Until};
use jiff::Timestamp;
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Connection, Error,
    RootCertStore, ServerConfig, ServerConnection,
};
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to do where one end speaks TLS and the other does not.
pub(super) const ALL_OR_NONE: &str =
    "give all processes --tls-cert, --tls-key and --tls-ca, or none of them";

/// Where the certificates of a process are, as PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    cert: PathBuf,
    key: PathBuf,
    ca: PathBuf,
}

impl TlsFiles {
    /// The files that the command line names; none where it names none.
    ///
    /// # Errors
    /// When it names some of them.
    pub fn of(
        cert: Option<PathBuf>,
        key: Option<PathBuf>,
        ca: Option<PathBuf>,
    ) -> Result<Option<Self>, ClusterError> {
        let given = [
            ("--tls-cert", cert.is_some()),
            ("--tls-key", key.is_some()),
            ("--tls-ca", ca.is_some()),
        ];
        if let (Some(cert), Some(key), Some(ca)) = (cert, key, ca) {
            return Ok(Some(Self { cert, key, ca }));
        }
        let names = |is_given| {
            let names = given.iter().filter(|(_, given)| *given == is_given);
            names
                .map(|(name, _)| *name)
                .collect::<Vec<_>>()
                .join(" and ")
        };
        if names(true).is_empty() {
            return Ok(None);
        }
        Err(ClusterError::Asked(format!(
            "TLS between processes needs a certificate, its key and a CA: give {} beside {}",
            names(false),
            names(true)
        )))
    }

    /// Refuses what the processes of a cluster would refuse of the one that they call by `host`.
    ///
    /// # Errors
    /// When a file does not hold what it should, or the others would not accept what it holds.
    pub fn check(&self, host: &str) -> Result<(), ClusterError> {
        self.load(host).map(drop)
    }

    /// Reads the certificates of the process that others call by `host`.
    ///
    /// # Errors
    /// When a file does not hold what it should, or the others would not accept what it holds.
    pub(super) fn load(&self, host: &str) -> Result<Tls, ClusterError> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for ca in certificates(&self.ca)? {
            let added = roots.add(ca);
            added.map_err(|error| wrong(&self.ca, "is no CA", &error))?;
        }
        let (roots, chain) = (Arc::new(roots), certificates(&self.cert)?);
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?);
        let key = key.map_err(|error| wrong(&self.key, "holds no private key in PEM", &error))?;
        let failed = |error: &dyn fmt::Display| wrong(&self.ca, "cannot be used", error);
        let opens =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let opens = opens.build().map_err(|error| failed(&error))?;
        let knocks = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let knocks = knocks.build().map_err(|error| failed(&error))?;
        // What the others would find is found here, where the file is known.
        let now = UnixTime::now();
        let (own, between) = chain
            .split_first()
            .expect("a file without certificates is refused");
        let called = name(host).map_err(|error| ClusterError::Asked(error.to_string()))?;
        let as_one_called = knocks.verify_server_cert(own, between, &called, &[], now);
        let as_one_calling = opens.verify_client_cert(own, between, now);
        let checked = as_one_called.map(drop).and(as_one_calling.map(drop));
        checked.map_err(|error| {
            ClusterError::Asked(format!(
                "the certificate in {} {}",
                self.cert.display(),
                told(&error, &self.ca)
            ))
        })?;
        let pair = |error: Error| {
            ClusterError::Asked(format!(
                "the key in {} is not that of the certificate in {}: {error}",
                self.key.display(),
                self.cert.display()
            ))
        };
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| failed(&error))?
            .with_client_cert_verifier(opens)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(pair)?;
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| failed(&error))?
            .with_webpki_verifier(knocks)
            .with_client_auth_cert(chain, key)
            .map_err(pair)?;
        client.resumption = Resumption::disabled();
        Ok(Tls {
            knocks: Arc::new(client),
            opens: Arc::new(server),
            files: self.clone(),
        })
    }
}

/// The two ends of connections, as the files say.
#[derive(Clone)]
pub(super) struct Tls {
    knocks: Arc<ClientConfig>,
    opens: Arc<ServerConfig>,
    files: TlsFiles,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.files, f)
    }
}

impl Tls {
    /// Agrees on TLS with the process at `host`, to which `raw` leads.
    pub(super) fn knock(&self, host: &str, raw: &mut Until<'_>) -> io::Result<Session> {
        let client = ClientConnection::new(Arc::clone(&self.knocks), name(host)?);
        agree(client.map_err(io::Error::other)?.into(), raw)
    }

    /// Agrees on TLS with one who has come.
    pub(super) fn open(&self, raw: &mut Until<'_>) -> io::Result<Session> {
        let server = ServerConnection::new(Arc::clone(&self.opens));
        agree(server.map_err(io::Error::other)?.into(), raw)
    }

    /// What is wrong, if it is the certificate of whoever is at the other end, or that of this process in
    /// its eyes; continues "it ".
    pub(super) fn refusal(&self, error: &io::Error) -> Option<String> {
        let error = error.get_ref()?.downcast_ref::<Error>()?;
        match error {
            Error::InvalidCertificate(_) => Some(format!(
                "has a certificate that {}",
                told(error, &self.files.ca)
            )),
            Error::NoCertificatesPresented => Some("has no certificate".to_owned()),
            Error::AlertReceived(alert) => {
                let why = match alert {
                    AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                        "is of another CA than it has; give all processes certificates of one CA"
                    }
                    AlertDescription::CertificateExpired => {
                        "has expired, or is not valid yet, by the clock there"
                    }
                    AlertDescription::BadCertificate
                    | AlertDescription::CertificateUnknown
                    | AlertDescription::CertificateRevoked
                    | AlertDescription::UnsupportedCertificate
                    | AlertDescription::AccessDenied => "does not hold in its eyes; it says why",
                    _ => return None,
                };
                let cert = self.files.cert.display();
                Some(format!("refuses the certificate in {cert}, which {why}"))
            }
            _ => None,
        }
    }
}

fn agree(mut connection: Connection, raw: &mut Until<'_>) -> io::Result<Session> {
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(raw) {
            // The other end has been told why, which is lost to it when it still says something and finds
            // nobody: that is borne until it has read.
            raw.0.shutdown(Shutdown::Write).ok();
            io::copy(raw, &mut io::sink()).ok();
            return Err(error);
        }
    }
    Ok(Session::new(connection))
}

/// By which name a process is called.
fn name(host: &str) -> io::Result<ServerName<'static>> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(name.to_owned())
        .map_err(|_| io::Error::other(format!("{name:?} is no name that a certificate can have")))
}

/// What is wrong with a certificate, and what to do; continues "the certificate ".
fn told(error: &Error, ca: &Path) -> String {
    let ca = ca.display();
    let day = |time: &UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_second(seconds).map_or_else(|_| String::new(), |t| t.to_string())
    };
    let Error::InvalidCertificate(wrong) = error else {
        return format!("does not hold: {error}");
    };
    match wrong {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "no CA in {ca} has signed; give all processes certificates of one CA"
        ),
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "has expired at {}; give this process one that is valid",
            day(not_after)
        ),
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "is not valid before {}; compare the clock of this machine",
            day(not_before)
        ),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "is not for {}, as the hostfile calls that process, but for {}; make one with that subject \
             alternative name",
            expected.to_str(),
            presented.join(", ")
        ),
        CertificateError::InvalidPurposeContext { .. } => {
            "is not for both ends of a connection; make one whose extended key usage is serverAuth and \
             clientAuth, or that has none"
                .to_owned()
        }
        other => format!("does not hold: {other}"),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, ClusterError> {
    std::fs::read(file).map_err(|error| wrong(file, "cannot be read", &error))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ClusterError> {
    let text = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| wrong(file, "is no PEM", &error))?;
    if found.is_empty() {
        return Err(ClusterError::Asked(format!(
            "{} holds no certificate; give a file in PEM, with the line -----BEGIN CERTIFICATE-----",
            file.display()
        )));
    }
    Ok(found)
}

fn wrong(file: &Path, what: &str, error: &dyn fmt::Display) -> ClusterError {
    ClusterError::Asked(format!(
        "TLS between processes: {} {what}: {error}",
        file.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::door::{Claim, Come, Door, Keys, Purpose, knock};
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
        date_time_ymd,
    };
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::mpsc::channel;
    use std::time::Duration;
    use tempfile::TempDir;
    use timely::communication::allocator::zero_copy::stream::Stream as _;

    const PATIENCE: Duration = Duration::from_secs(60);
    /// More than all buffers on the way hold.
    const MUCH: usize = 16 << 20;

    /// A folder with a CA, and what it signs.
    struct Authority(TempDir, Issuer<'static, KeyPair>);

    impl Authority {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let ca = params.self_signed(&key).unwrap();
            std::fs::write(folder.path().join("ca"), ca.pem()).unwrap();
            Self(folder, Issuer::new(params, key))
        }

        /// The files of a certificate for `name`.
        fn sign(
            &self,
            file: &str,
            name: &str,
            change: impl FnOnce(&mut CertificateParams),
        ) -> TlsFiles {
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            change(&mut params);
            let key = KeyPair::generate().unwrap();
            let at = |what: &str| self.0.path().join(what);
            let files = TlsFiles {
                cert: at(file),
                key: at(&format!("{file}.key")),
                ca: at("ca"),
            };
            let cert = params.signed_by(&key, &self.1).unwrap();
            std::fs::write(&files.cert, cert.pem()).unwrap();
            std::fs::write(&files.key, key.serialize_pem()).unwrap();
            files
        }

        fn good(&self) -> TlsFiles {
            self.sign("cert", "127.0.0.1", |_| {})
        }
    }

    fn expired(params: &mut CertificateParams) {
        params.not_after = date_time_ymd(2020, 1, 1);
    }

    fn keys(files: &TlsFiles) -> Keys {
        Keys {
            tls: Some(files.load("127.0.0.1").unwrap()),
            ..Keys::default()
        }
    }

    fn door(keys: &Keys) -> (Door, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        (Door::open(listener, keys).unwrap(), host)
    }

    const CLAIM: Claim = Claim {
        purpose: Purpose::Data,
        process: 1,
        run: [7; 16],
    };

    fn said(refused: Result<impl Sized, ClusterError>) -> String {
        refused.err().unwrap().to_string()
    }

    #[test]
    fn both_ways_are_used_at_once() {
        let keys = keys(&Authority::new().good());
        let (door, host) = door(&keys);
        let ours = knock(&host, CLAIM, None, &keys).unwrap();
        let Some(Come::OfRun(CLAIM, theirs)) = door.next(PATIENCE) else {
            panic!("it is a connection of a run");
        };
        let sent: Vec<u8> = (0..MUCH).map(|n| n.to_le_bytes()[1]).collect();
        // Each end waits for what comes before it says anything, and then both say more than fits.
        let (tell, done) = channel();
        for line in [ours, theirs] {
            let (mut reader, mut writer) = (line.try_clone().unwrap(), line);
            let (mine, tell) = (sent.clone(), tell.clone());
            std::thread::spawn(move || {
                let mut come = Vec::new();
                reader.read_to_end(&mut come).unwrap();
                tell.send(come).ok();
            });
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(200));
                writer.write_all(&mine).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
        }
        for _ in 0..2 {
            let come = done.recv_timeout(PATIENCE).expect("both ways go on");
            assert!(come == sent);
        }
    }

    #[test]
    fn a_connection_that_is_cut_off_has_no_end() {
        let keys = keys(&Authority::new().good());
        let (door, host) = door(&keys);
        let mut ours = knock(&host, CLAIM, None, &keys).unwrap();
        let Some(Come::OfRun(_, theirs)) = door.next(PATIENCE) else {
            panic!("it is a connection of a run");
        };
        theirs.shutdown(Shutdown::Both).unwrap();
        let cut = ours.read(&mut [0; 1]).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
        drop(theirs);
    }

    #[test]
    fn strangers_are_told_apart() {
        let (authority, other) = (Authority::new(), Authority::new());
        let good = keys(&authority.good());
        let tls = good.tls.clone().unwrap();
        let knocks = |files: Option<&TlsFiles>| {
            let provider = Arc::new(ring::default_provider());
            let mut roots = RootCertStore::empty();
            roots
                .add(certificates(&tls.files.ca).unwrap().remove(0))
                .unwrap();
            let client = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&TLS13])
                .unwrap()
                .with_root_certificates(roots);
            let client = match files {
                Some(files) => {
                    let key = PrivateKeyDer::from_pem_slice(&read(&files.key).unwrap());
                    client.with_client_auth_cert(certificates(&files.cert).unwrap(), key.unwrap())
                }
                None => Ok(client.with_no_client_auth()),
            };
            Keys {
                tls: Some(Tls {
                    knocks: Arc::new(client.unwrap()),
                    ..tls.clone()
                }),
                ..Keys::default()
            }
        };
        let old = authority.sign("old", "127.0.0.1", expired);
        let cases = [
            (
                knocks(Some(&other.good())),
                "which is of another CA than it has",
                "has a certificate that no CA in",
            ),
            (
                knocks(Some(&old)),
                "has expired, or is not valid yet",
                "has a certificate that has expired at 2020-01-01T00:00:00Z",
            ),
            (knocks(None), "CertificateRequired", "has no certificate"),
            // Its own files are sound, but not the other's in its eyes.
            (
                keys(&other.good()),
                "it has a certificate that no CA in",
                "which is of another CA than it has",
            ),
            (
                Keys::default(),
                "without an answer; if one end speaks TLS",
                "does not speak TLS; give all processes",
            ),
        ];
        let (door, host) = door(&good);
        for (keys, to_it, of_it) in cases {
            let refused = knock(&host, CLAIM, None, &keys).unwrap_err().to_string();
            assert!(refused.contains(to_it), "{to_it}: {refused}");
            let Some(Come::Refused(_, reason)) = door.next(PATIENCE) else {
                panic!("{of_it}: it is told");
            };
            assert!(reason.contains(of_it), "{of_it}: {reason}");
        }
        drop(knock(&host, CLAIM, None, &good).unwrap());
        assert!(matches!(door.next(PATIENCE), Some(Come::OfRun(..))));
    }

    #[test]
    fn one_who_speaks_tls_is_told_where_nobody_does() {
        let (door, host) = door(&Keys::default());
        let refused = knock(&host, CLAIM, None, &keys(&Authority::new().good()));
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("without an answer; if one end speaks TLS"),
            "{refused}"
        );
        let Some(Come::Refused(_, reason)) = door.next(PATIENCE) else {
            panic!("it is told");
        };
        assert!(
            reason.contains("speaks TLS, and this process does not"),
            "{reason}"
        );
    }

    #[test]
    fn files_that_cannot_serve_are_named() {
        let (authority, other) = (Authority::new(), Authority::new());
        let good = authority.good();
        let check = |files: TlsFiles, file: &Path, says: &str| {
            let said = said(files.check("127.0.0.1:2101"));
            assert!(said.contains(&file.display().to_string()), "{says}: {said}");
            assert!(said.contains(says), "{says}: {said}");
        };
        good.check("127.0.0.1:2101").unwrap();
        let none = authority.0.path().join("none");
        let with_key = |key: &Path| TlsFiles {
            key: key.to_owned(),
            ..good.clone()
        };
        let with_ca = |ca: &Path| TlsFiles {
            ca: ca.to_owned(),
            ..good.clone()
        };
        check(with_key(&none), &none, "cannot be read");
        check(with_key(&good.cert), &good.cert, "holds no private key");
        check(with_ca(&good.key), &good.key, "holds no certificate");
        let theirs = other.good();
        check(
            with_key(&theirs.key),
            &theirs.key,
            "is not that of the certificate in",
        );
        check(with_ca(&theirs.ca), &good.cert, "no CA in");
        let named = authority.sign("named", "elsewhere.example", |_| {});
        check(
            named.clone(),
            &named.cert,
            "is not for 127.0.0.1, as the hostfile calls",
        );
        named.check("elsewhere.example:1").unwrap();
        let old = authority.sign("old", "127.0.0.1", expired);
        check(
            old.clone(),
            &old.cert,
            "has expired at 2020-01-01T00:00:00Z",
        );
        let soon = |params: &mut CertificateParams| params.not_before = date_time_ymd(4000, 1, 1);
        let soon = authority.sign("soon", "127.0.0.1", soon);
        check(soon.clone(), &soon.cert, "is not valid before 4000-01-01");
        for purpose in [
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ] {
            let one = |params: &mut CertificateParams| params.extended_key_usages.push(purpose);
            let one = authority.sign("one", "127.0.0.1", one);
            check(one.clone(), &one.cert, "is not for both ends");
        }
    }

    #[test]
    fn files_are_given_together() {
        let file = || Some(PathBuf::from("file"));
        assert!(TlsFiles::of(None, None, None).unwrap().is_none());
        assert!(TlsFiles::of(file(), file(), file()).unwrap().is_some());
        let half = said(TlsFiles::of(file(), None, None));
        assert!(
            half.contains("give --tls-key and --tls-ca beside --tls-cert"),
            "{half}"
        );
        let half = said(TlsFiles::of(None, file(), file()));
        assert!(
            half.contains("give --tls-cert beside --tls-key and --tls-ca"),
            "{half}"
        );
    }
}
