//! What makes `hopbench node` a proxy, as options.

use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use hopbench::node::{InterfaceConfig, NodeConfig, RouteConfig};
use hopbench::sip::{DATAGRAM_BYTES_MAX, Service};
use hopbench::transport::{self, Stack};

/// Options of a proxy, and of whoever challenges callers.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Proxy")]
pub(crate) struct ProxyArgs {
    /// What calls find: "answer" answers them itself; "proxy" passes them on to who registered here or
    /// by a route; "useragent" answers whatever reaches it, whoever it is for
    #[arg(long, value_name = "KIND", default_value = "answer", value_parser = super::by_name::<Service>)]
    service: Service,
    /// Where requests for other domains than --domain go: DOMAIN=STACK@HOST:PORT, for example
    /// b.example=mtls@192.0.2.7:5061; * stands for every domain that no other route names. May be
    /// given several times. The same --credentials serve the listener and the routes
    #[arg(long = "route", value_name = "ROUTE")]
    routes: Vec<Way>,
    /// Address that next hops reach this proxy at. With routes over several stacks, leave the port 0;
    /// tunnelled routes have none
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    core_listen: SocketAddr,
    /// Who this proxy is to a next hop over a tunnel: the number of its keys there, which must be
    /// below the next hop's --accounts and no user's that connects there
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    route_user: u32,
    /// Callers have to prove who they are: 407 from a proxy, 401 from who answers
    #[arg(long)]
    authenticate_calls: bool,
    /// Let `sips:` requests cross a protected tunnel as they may cross TLS (RFC 5630 knows TLS only)
    #[arg(long)]
    tunnels_protect: bool,
    /// Requests longer than this leave over TCP instead of UDP where the proxy has both (RFC 3261
    /// §18.1.1)
    #[arg(long, value_name = "BYTES", default_value_t = DATAGRAM_BYTES_MAX)]
    datagram_max: usize,
}

/// Where requests for a domain go, as it is written.
#[derive(Clone, Debug)]
struct Way {
    /// `None` for every domain that no other route names.
    domain: Option<String>,
    stack: &'static Stack,
    target: SocketAddr,
}

impl FromStr for Way {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        const SHAPE: &str = "expected DOMAIN=STACK@HOST:PORT";
        let (domain, way) = text.split_once('=').context(SHAPE)?;
        ensure!(!domain.is_empty(), "{SHAPE}, found no domain; * is for all");
        // A stack may have an @ of its own.
        let (stack, target) = way.rsplit_once('@').context(SHAPE)?;
        let mut addresses = target
            .to_socket_addrs()
            .with_context(|| format!("{SHAPE}, found \"{target}\" in place of HOST:PORT"))?;
        Ok(Self {
            domain: (domain != "*").then(|| domain.to_owned()),
            stack: transport::find(stack)?,
            target: addresses.next().context("the host has no address")?,
        })
    }
}

impl ProxyArgs {
    /// Whether a route leaves over a stack that needs certificates or keys.
    pub(crate) fn protected_stack(&self) -> Option<&'static Stack> {
        let mut stacks = self.routes.iter().map(|way| way.stack);
        stacks.find(|stack| stack.protected)
    }

    /// Whether several workers can share the routes.
    ///
    /// # Errors
    /// When they would share an address or a tunnel that answers must find their way back by.
    pub(crate) fn check_workers(&self) -> anyhow::Result<()> {
        ensure!(
            self.core_listen.port() == 0,
            "--workers: each worker has an address of its own towards next hops: leave the port of \
             --core-listen 0"
        );
        let tunnelled = self.routes.iter().find(|way| way.stack.tunnel.is_some());
        match tunnelled {
            None => Ok(()),
            Some(way) => bail!(
                "--workers: {} is a route over a tunnel, whose far end would take all workers for one \
                 peer",
                way.stack.name
            ),
        }
    }

    /// Makes the node what the options say. Routes leave by interfaces of their own, one a stack.
    ///
    /// # Errors
    /// When the options contradict each other.
    pub(crate) fn apply(&self, config: &mut NodeConfig) -> anyhow::Result<()> {
        ensure!(
            self.routes.is_empty() || self.service == Service::Proxy,
            "--route is for a proxy: add --service proxy"
        );
        config.service = self.service;
        config.authenticate_calls = self.authenticate_calls;
        config.tunnels_protect = self.tunnels_protect;
        config.datagram_bytes_max = self.datagram_max;
        let edges = config.interfaces.len();
        for (index, way) in self.routes.iter().enumerate() {
            let is_known = |other: &Way| other.domain == way.domain;
            let name = way.domain.as_deref().unwrap_or("*");
            ensure!(
                !self.routes[..index].iter().any(is_known),
                "--route: there are two for {name}"
            );
            let mut cores = config.interfaces.iter().skip(edges);
            let known = cores.position(|side| side.stack == way.stack.name);
            let interface = known.map_or(config.interfaces.len(), |core| edges + core);
            if known.is_none() {
                config.interfaces.push(InterfaceConfig {
                    stack: way.stack.name.to_owned(),
                    listen: way.stack.tunnel.is_none().then_some(self.core_listen),
                });
            }
            config.routes.push(RouteConfig {
                domain: way.domain.clone(),
                interface,
                target: way.target,
                user: self.route_user,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::sip::Accounts;
    use hopbench::transport::Settings;

    use super::*;

    fn args(service: Service, routes: &[&str]) -> ProxyArgs {
        ProxyArgs {
            service,
            routes: routes.iter().map(|route| route.parse().unwrap()).collect(),
            core_listen: ([127, 0, 0, 1], 5070).into(),
            route_user: 7,
            authenticate_calls: true,
            tunnels_protect: false,
            datagram_max: 900,
        }
    }

    fn config() -> NodeConfig {
        let accounts = Accounts::new("a.example", "secret", 1);
        let listen = ([127, 0, 0, 1], 5060).into();
        NodeConfig::answering("udp", listen, Settings::default(), accounts)
    }

    #[test]
    fn each_stack_of_a_route_has_an_interface_of_its_own() {
        let routes = [
            "b.example=mtls@127.0.0.1:5061",
            "c.example=udp@wireguard@127.0.0.1:5062",
            "*=mtls@[::1]:5063",
        ];
        let mut config = config();
        args(Service::Proxy, &routes).apply(&mut config).unwrap();
        let interfaces = config.interfaces.iter();
        let interfaces: Vec<(&str, bool)> = interfaces
            .map(|side| (side.stack.as_str(), side.listen.is_some()))
            .collect();
        let expected = [("udp", true), ("mtls", true), ("udp@wireguard", false)];
        assert_eq!(interfaces, expected);
        let routes = config.routes.iter();
        let routes: Vec<(Option<&str>, usize, u16)> = routes
            .map(|route| {
                (
                    route.domain.as_deref(),
                    route.interface,
                    route.target.port(),
                )
            })
            .collect();
        let expected = [
            (Some("b.example"), 1, 5061),
            (Some("c.example"), 2, 5062),
            (None, 1, 5063),
        ];
        assert_eq!(routes, expected);
        assert!(config.authenticate_calls);
        assert_eq!(config.datagram_bytes_max, 900);
        assert_eq!(config.routes[1].user, 7);
    }

    #[test]
    fn what_is_no_route_is_told_with_what_is() {
        let cases = [
            ("b.example", "DOMAIN=STACK@HOST:PORT"),
            ("=tls@127.0.0.1:5061", "* is for all"),
            ("b.example=127.0.0.1:5061", "DOMAIN=STACK@HOST:PORT"),
            ("b.example=mtsl@127.0.0.1:5061", "did you mean \"mtls\"?"),
            ("b.example=tls@127.0.0.1", "in place of HOST:PORT"),
        ];
        for (route, expected) in cases {
            let error = format!("{:#}", route.parse::<Way>().unwrap_err());
            assert!(error.contains(expected), "{route}: {error}");
        }
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        let routes = [
            "b.example=tls@127.0.0.1:5061",
            "b.example=tcp@127.0.0.1:5062",
        ];
        let mut config = config();
        let error = args(Service::Proxy, &routes)
            .apply(&mut config)
            .unwrap_err();
        assert!(error.to_string().contains("two for b.example"), "{error}");
        let error = args(Service::Answer, &routes[..1])
            .apply(&mut config)
            .unwrap_err();
        assert!(error.to_string().contains("--service proxy"), "{error}");
    }
}
