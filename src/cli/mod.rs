//! One file per subcommand. Only here and in `main` are arguments and the environment read.

pub(crate) mod bench;
pub(crate) mod certs;
pub(crate) mod chat;
pub(crate) mod check;
pub(crate) mod connect;
pub(crate) mod ctl;
pub(crate) mod dev;
pub(crate) mod health;
pub(crate) mod log;
pub(crate) mod logic;
pub(crate) mod output;
pub(crate) mod reload_thread;
pub(crate) mod route;
pub(crate) mod serve;
pub(crate) mod service_manager;
pub(crate) mod shutdown;
pub(crate) mod sign;
pub(crate) mod token;
pub(crate) mod top;

/// The configuration, unless `--config` names another: for containers, whose health check must read the same one.
const CONFIG_VARIABLE: &str = "GATEWAY_CONFIG";

/// The configuration, unless one is named.
const DEFAULT_CONFIG: &str = "config/gateway.toml";

/// Where `dev` serves the administrator, unless its ports are moved; `ctl` looks there where there is no configuration.
const DEV_SOCKET: &str = "certs/dev/admin.sock";
