//! A file read again beside what runs: what is kept, and what stays with it (rows F6, F17).

use rcgen::{CertificateParams, KeyPair};

use super::*;

const INSTANCE: &str = "[[discovery.instances]]\nservice = \"login\"\nid = \"login01\"\nzone = \"zone_a\"\naddress = \"127.0.0.1:9001\"\n";

impl Home {
    fn load_again(&self, running: &str, asked: &str) -> Result<LoadedAgain, ConfigError> {
        let running = self.parse(running, &[]).unwrap().written;
        fs::write(self.0.join("gateway.toml"), asked).unwrap();
        self.file().load_again(&running)
    }

    fn file(&self) -> ConfigFile {
        ConfigFile { path: self.0.join("gateway.toml"), options: self.options(&[]) }
    }

    /// A certificate of its own with its key.
    fn put_pair(&self) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["gw.example.org".to_owned()]).unwrap();
        fs::create_dir_all(self.0.join("mine")).unwrap();
        fs::write(self.0.join("mine/chain.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(self.0.join("mine/chain.key"), key.serialize_pem()).unwrap();
    }

    fn put_pipe(&self, name: &str) {
        let path = self.0.join(name);
        let _replaced = fs::remove_file(&path);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    }
}

/// Instances come from Consul.
fn consul() -> String {
    minimal("[discovery]\nkind = \"consul\"\nservices = [\"login\"]\n[discovery.consul]\naddress = \"http://127.0.0.1:9\"\n")
        .replace("id = \"g1\"", "id = \"g1\"\nadvertise = \"203.0.113.7\"")
}

/// Other lines in place of the one key of `[auth]`.
fn with_auth(auth: &str) -> String {
    minimal("").replace("secret_file = \"certs/dev/jwt.secret\"", auth)
}

#[test]
fn f17_instances_stay_with_the_kind_that_they_were_written_for() {
    let home = Home::new("reload-kind");
    let again = home.load_again(&minimal(INSTANCE), &consul()).unwrap();
    assert_eq!(
        again.needs_restart,
        [
            "discovery.kind",
            "discovery.instances",
            "discovery.services",
            "discovery.consul",
            "gateway.advertise"
        ]
    );
    assert_eq!(again.loaded.config.instances.len(), 1, "those that run");
    assert!(again.loaded.config.consul.is_none());

    let again = home.load_again(&consul(), &minimal(INSTANCE)).unwrap();
    assert_eq!(again.needs_restart[..2], ["discovery.kind", "discovery.instances"]);
    let agent = again.loaded.config.consul.unwrap();
    assert_eq!((&agent.services[..], agent.agent.port), (&["login".to_owned()][..], 9));
}

#[test]
fn f17_instances_stay_with_the_login_service() {
    let home = Home::new("reload-login");
    let renamed = format!("[login]\nservice = \"auth\"\n{}", INSTANCE.replace("\"login\"", "\"auth\""));
    let again = home.load_again(&minimal(INSTANCE), &minimal(&renamed)).unwrap();
    assert_eq!(again.needs_restart, ["login.service", "discovery.instances"]);
    let config = again.loaded.config;
    assert_eq!((&*config.login_service, &*config.instances[0].service), ("login", "login"));
    // Without the one, the other applies.
    let again = home.load_again(&minimal(INSTANCE), &minimal(&INSTANCE.replace("9001", "9002"))).unwrap();
    assert_eq!(again.needs_restart, [""; 0]);
    assert_eq!(&*again.loaded.config.instances[0].address, "127.0.0.1:9002");
}

#[test]
fn b24_f17_keys_of_tokens_stay_with_the_url_in_whose_place_they_come() {
    const URL: &str = "jwks_url = \"http://127.0.0.1:9/keys\"";
    const SECRET_FILE: &str = "secret_file = \"certs/dev/jwt.secret\"";
    let home = Home::new("reload-jwks");
    fs::write(home.0.join("keys.json"), r#"{"keys":[{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZg"}]}"#).unwrap();
    for (running, asked, kept) in [
        (URL, SECRET_FILE, &["auth.jwks_url", "auth.algorithm", "auth.secret_file"][..]),
        (SECRET_FILE, URL, &["auth.jwks_url", "auth.algorithm", "auth.secret_file"]),
        (URL, "jwks_file = \"keys.json\"", &["auth.jwks_url", "auth.jwks_file"]),
        ("jwks_file = \"keys.json\"", URL, &["auth.jwks_url", "auth.jwks_file"]),
    ] {
        let again = home.load_again(&with_auth(running), &with_auth(asked)).unwrap();
        assert_eq!(again.needs_restart, kept, "{running} → {asked}");
        let (config, runs_url) = (again.loaded.config, running == URL);
        assert_eq!((config.jwks.is_some(), config.token_keys.is_empty()), (runs_url, runs_url), "{running}");
    }
}

/// The listener stays, and its certificate is gone.
#[test]
fn f6_what_does_not_fit_to_what_runs_is_not_said_to_be_wrong() {
    let home = Home::new("reload-kept");
    home.put_pair();
    let tls = "tls_listen = \"127.0.0.1:0\"\n[tls]\ncert = \"mine/chain.pem\"\nkey = \"mine/chain.key\"\n";
    let running = home.parse(&minimal(tls), &[]).unwrap().written;
    fs::remove_dir_all(home.0.join("mine")).unwrap();
    fs::remove_file(home.0.join("certs/dev/server.pem")).unwrap();
    fs::write(home.0.join("gateway.toml"), minimal("")).unwrap();
    assert!(load(&home.file().path, &home.file().options).is_ok());
    let told = home.file().load_again(&running).unwrap_err().to_string();
    let says = "what the file says is allowed, but not together with tcp.tls_listen, which need a restart and are as they were: \
                tls.cert: ";
    assert!(told.starts_with(says) && told.ends_with("; restart the gateway"), "{told}");
}

/// It was read at the start, and can be read once.
#[test]
fn h17_f17_what_comes_from_a_pipe_stays_and_holds_up_nothing_else() {
    let home = Home::new("reload-pipe");
    home.put_pair();
    let tls = "tls_listen = \"127.0.0.1:0\"\n[tls]\ncert = \"mine/chain.pem\"\nkey = \"mine/chain.key\"\n\
               ticket_key_file = \"ticket.keys\"\n";
    fs::write(home.0.join("ticket.keys"), TicketKeys::generate().unwrap().to_text()).unwrap();
    let loaded = home.parse(&minimal(tls), &[]).unwrap();
    let (running, before) = (loaded.written, loaded.config);
    let read = || home.file().load_keys_again(&running).unwrap();
    let again = read();
    assert!(again.identity.is_some() && again.ticket_keys.is_some() && again.token_keys.is_some());

    home.put_pipe("certs/dev/jwt.secret");
    home.put_pair();
    let again = read();
    assert!(again.ticket_keys.is_some() && again.token_keys.is_none());
    let config = before.clone().with_keys(again);
    assert_eq!(config.token_keys, before.token_keys, "as they run");
    assert_ne!(config.certificate(), before.certificate(), "it is renewed all the same");

    home.put_pipe("ticket.keys");
    home.put_pipe("mine/chain.key");
    fs::remove_file(home.0.join("certs/dev/jwt.secret")).unwrap();
    fs::write(home.0.join("certs/dev/jwt.secret"), "another secret of 16 and more").unwrap();
    let again = read();
    assert!(again.identity.is_none() && again.ticket_keys.is_none() && again.token_keys.is_some());
    let config = before.clone().with_keys(again);
    assert_eq!((config.certificate(), &config.ticket_keys), (before.certificate(), &before.ticket_keys));
    assert_ne!(config.token_keys, before.token_keys);

    fs::remove_file(home.0.join("certs/dev/jwt.secret")).unwrap();
    let told = home.file().load_keys_again(&running).unwrap_err().to_string();
    assert!(told.contains("jwt.secret does not exist"), "what is missing is not what runs: {told}");
}

#[test]
fn the_ca_of_a_url_is_no_file_of_keys() {
    let home = Home::new("reload-ca");
    let auth = "jwks_url = \"https://localhost:9/\"\njwks_ca_file = \"certs/dev/ca.pem\"\n\
                [[auth.keys]]\nalgorithm = \"HS256\"\nsecret_file = \"certs/dev/jwt.secret\"";
    let written = home.parse(&with_auth(auth), &[]).unwrap().written;
    assert_eq!(written.token_key_files(), ["certs/dev/jwt.secret"]);
}
