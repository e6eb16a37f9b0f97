//! Which connections go to the sidecar, as an nftables script.
//!
//! The order of the rules is Istio's (its chains `ISTIO_INBOUND` and `ISTIO_OUTPUT` in REDIRECT mode), because
//! the first that applies decides.

use std::{fmt::Write as _, net::IpAddr, str::FromStr};

/// The table that holds all rules; replaced as a whole.
const TABLE: &str = "inet meshdojo_redirect";

/// Tunnels of ambient mesh: never redirected.
const HBONE_PORT: u16 = 15008;

/// Inbound ports: of Istio's flag `-b`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Every port but the excluded.
    All,
    /// Only these.
    These(Vec<u16>),
}

/// An address with the length of its prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an address or a network such as 10.0.0.0/8");
        let (address, prefix) = text
            .split_once('/')
            .map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), |text| text.parse().map_err(|_| wrong()))?;
        if prefix > longest {
            return Err(wrong());
        }
        Ok(Self { address, prefix })
    }
}

impl Network {
    /// `ip daddr 10.0.0.0/8`.
    fn destination(&self) -> String {
        let family = if self.address.is_ipv4() { "ip" } else { "ip6" };
        format!("{family} daddr {}/{}", self.address, self.prefix)
    }
}

/// Which connections go to the sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Where outbound connections go: 15001.
    pub outbound_port: u16,
    /// Where inbound connections go: 15006.
    pub inbound_port: u16,
    /// The sidecar's user, whose connections are left alone.
    pub uid: u32,
    /// The sidecar's group; as for the user.
    pub gid: u32,
    /// Inbound ports that are redirected.
    pub inbound: Ports,
    /// Inbound ports that are not: the sidecar's own, and the user's choice.
    pub inbound_excluded: Vec<u16>,
    /// Outbound networks that are redirected; `None`: all.
    pub outbound_networks: Option<Vec<Network>>,
    /// Outbound networks that are not.
    pub outbound_networks_excluded: Vec<Network>,
    /// Outbound ports that are redirected even outside of `outbound_networks`.
    pub outbound_ports: Vec<u16>,
    /// Outbound ports that are not.
    pub outbound_ports_excluded: Vec<u16>,
    /// Interfaces that are left alone.
    pub interfaces_excluded: Vec<String>,
}

impl Rules {
    /// The script for `nft -f`. Applying it twice is applying it once.
    pub fn script(&self) -> String {
        let mut script = format!("table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n");
        let mut chain = |name: &str, hook: &str, rules: &[String]| {
            _ = writeln!(script, "    chain {name} {{\n        type nat hook {hook};");
            for rule in rules {
                _ = writeln!(script, "        {rule}");
            }
            script.push_str("    }\n");
        };
        chain(
            "inbound",
            "prerouting priority dstnat",
            &self.inbound_rules(),
        );
        chain("outbound", "output priority -100", &self.outbound_rules());
        script.push_str("}\n");
        script
    }

    fn inbound_rules(&self) -> Vec<String> {
        let mut rules = vec!["meta l4proto != tcp return".into()];
        rules.extend(
            self.interfaces_excluded
                .iter()
                .map(|name| format!("iifname {name:?} return")),
        );
        let mut left_alone = vec![HBONE_PORT];
        left_alone.extend(&self.inbound_excluded);
        rules.push(format!("tcp dport {} return", set(&left_alone)));
        match &self.inbound {
            Ports::All => rules.push(format!(
                "meta l4proto tcp redirect to :{}",
                self.inbound_port
            )),
            Ports::These(ports) if ports.is_empty() => {}
            Ports::These(ports) => {
                rules.push(format!(
                    "tcp dport {} redirect to :{}",
                    set(ports),
                    self.inbound_port
                ));
            }
        }
        rules
    }

    fn outbound_rules(&self) -> Vec<String> {
        let Self {
            uid,
            gid,
            inbound_port,
            outbound_port,
            ..
        } = self;
        let mut rules = vec!["meta l4proto != tcp return".into()];
        rules.extend(
            self.interfaces_excluded
                .iter()
                .map(|name| format!("oifname {name:?} return")),
        );
        rules.extend(
            [
                // From the sidecar to its workload.
                "oifname \"lo\" ip saddr 127.0.0.6 return".into(),
                "oifname \"lo\" ip6 saddr ::6 return".into(),
                // The workload called itself through its service: in by the front door.
                format!("oifname \"lo\" meta skuid {uid} ip daddr != 127.0.0.1 tcp dport != {HBONE_PORT} redirect to :{inbound_port}"),
                format!("oifname \"lo\" meta skuid {uid} ip6 daddr != ::1 tcp dport != {HBONE_PORT} redirect to :{inbound_port}"),
                // Within the pod, and from the sidecar to others.
                format!("oifname \"lo\" meta skuid != {uid} return"),
                format!("meta skuid {uid} return"),
                format!("meta skgid {gid} return"),
                "ip daddr 127.0.0.1 return".into(),
                "ip6 daddr ::1 return".into(),
            ],
        );
        if !self.outbound_ports_excluded.is_empty() {
            rules.push(format!(
                "tcp dport {} return",
                set(&self.outbound_ports_excluded)
            ));
        }
        rules.extend(
            self.outbound_networks_excluded
                .iter()
                .map(|network| format!("{} return", network.destination())),
        );
        if !self.outbound_ports.is_empty() {
            rules.push(format!(
                "tcp dport {} redirect to :{outbound_port}",
                set(&self.outbound_ports)
            ));
        }
        match &self.outbound_networks {
            None => rules.push(format!("meta l4proto tcp redirect to :{outbound_port}")),
            Some(networks) => rules.extend(networks.iter().map(|network| {
                format!(
                    "{} meta l4proto tcp redirect to :{outbound_port}",
                    network.destination()
                )
            })),
        }
        rules
    }
}

/// `{ 15008, 15090 }`.
fn set(ports: &[u16]) -> String {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    ports.dedup();
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("{{ {} }}", ports.join(", "))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: crate::Args,
    }

    fn script(arguments: &[&str]) -> String {
        let command = ["istio-iptables"].iter().chain(arguments);
        Command::try_parse_from(command)
            .unwrap()
            .args
            .rules()
            .script()
    }

    #[test]
    fn the_sidecar_its_workload_and_loopback_are_left_alone_before_the_rest_is_redirected() {
        let script = script(&[
            "-p",
            "15001",
            "-z",
            "15006",
            "-u",
            "1337",
            "-m",
            "REDIRECT",
            "-i",
            "*",
            "-x",
            "",
            "-b",
            "*",
            "-d",
            "15090,15021,15020",
        ]);
        let position = |rule: &str| {
            script
                .find(rule)
                .unwrap_or_else(|| panic!("{rule} is not in\n{script}"))
        };
        let order = [
            "tcp dport { 15008, 15020, 15021, 15090 } return",
            "meta l4proto tcp redirect to :15006\n",
            "ip saddr 127.0.0.6 return",
            "meta skuid 1337 ip daddr != 127.0.0.1",
            "meta skuid != 1337 return",
            "meta skuid 1337 return",
            "ip daddr 127.0.0.1 return",
            "        meta l4proto tcp redirect to :15001\n",
        ];
        assert!(order.map(position).is_sorted(), "{script}");
    }

    #[test]
    fn inclusions_and_exclusions() {
        let script = script(&[
            "-i",
            "10.0.0.0/8,fd00::/8",
            "-x",
            "10.1.0.0/16",
            "-b",
            "8080,80",
            "-o",
            "3306",
            "-q",
            "9999",
            "-c",
            "net1,net2",
        ]);
        for rule in [
            "iifname \"net1\" return",
            "oifname \"net2\" return",
            "tcp dport { 80, 8080 } redirect to :15006",
            "tcp dport { 3306 } return",
            "ip daddr 10.1.0.0/16 return",
            "tcp dport { 9999 } redirect to :15001",
            "ip daddr 10.0.0.0/8 meta l4proto tcp redirect to :15001",
            "ip6 daddr fd00::/8 meta l4proto tcp redirect to :15001",
        ] {
            assert!(script.contains(rule), "{rule} is not in\n{script}");
        }
        assert!(
            !script.contains("        meta l4proto tcp redirect"),
            "{script}"
        );
    }

    #[test]
    fn what_is_not_a_port_or_a_network_is_refused() {
        for wrong in [
            ["-d", "http"],
            ["-d", "0"],
            ["-d", "70000"],
            ["-x", "10.0.0.0/33"],
            ["-i", "ten"],
            ["-m", "maybe"],
        ] {
            let command = ["istio-iptables"].iter().chain(&wrong);
            assert!(Command::try_parse_from(command).is_err(), "{wrong:?}");
        }
    }
}
