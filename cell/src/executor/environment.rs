//! What processes see in their environment, as Cloud Foundry's apps expect it.
//!
//! Pure. The container's own variables are known before it is made; those of its network only
//! after, so every process brings them. Of two variables of one name the later counts.

use std::net::Ipv4Addr;

use domain::action::EnvironmentVariable;
use domain::bbs::definition::Definition;
use domain::sealed::PlainText;

use crate::garden::Environment;
use crate::identity;

/// The variables that every process of a container gets.
pub(super) fn of_container(
    additions: &[(String, String)],
    definition: &Definition<PlainText>,
    has_identity: bool,
) -> Environment {
    let mut variables = additions.to_vec();
    variables.push(variable("LANG", "en_US.UTF-8".to_owned()));
    variables.push(variable("MEMORY_LIMIT", format!("{}m", definition.memory_mb.0)));
    if let Some(port) = definition.ports.first() {
        variables.push(variable("PORT", port.to_string()));
    }
    variables.extend(plain(&definition.env));
    if has_identity {
        variables.extend(identity::Folder::variables());
    }
    last_of_each_name(variables)
}

/// The variables that one process brings: its own, then those of the network, which win.
pub(super) fn of_process(
    own: &[EnvironmentVariable<PlainText>],
    address: Ipv4Addr,
    ports: &[u16],
) -> Environment {
    let mut variables: Vec<_> = plain(own).collect();
    variables.extend(network(address, ports));
    last_of_each_name(variables)
}

/// A container is reached at its own address: inside and outside are one.
fn network(address: Ipv4Addr, ports: &[u16]) -> Vec<(String, String)> {
    let mapping = |port: &u16| format!("{{\"external\":{port},\"internal\":{port}}}");
    let mappings: Vec<String> = ports.iter().map(mapping).collect();
    let first = ports.first().map(ToString::to_string);
    let reached_at = first.as_ref().map(|port| format!("{address}:{port}"));
    vec![
        variable("CF_INSTANCE_IP", address.to_string()),
        variable("CF_INSTANCE_INTERNAL_IP", address.to_string()),
        variable("CF_INSTANCE_PORT", first.unwrap_or_default()),
        variable("CF_INSTANCE_ADDR", reached_at.unwrap_or_default()),
        variable("CF_INSTANCE_PORTS", format!("[{}]", mappings.join(","))),
    ]
}

fn plain(
    variables: &[EnvironmentVariable<PlainText>],
) -> impl Iterator<Item = (String, String)> + '_ {
    variables.iter().map(|variable| (variable.name.clone(), variable.value.0.clone()))
}

fn variable(name: &str, value: String) -> (String, String) {
    (name.to_owned(), value)
}

fn last_of_each_name(variables: Vec<(String, String)>) -> Environment {
    let mut kept: Vec<(String, String)> = Vec::with_capacity(variables.len());
    for (name, value) in variables {
        match kept.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => kept.push((name, value)),
        }
    }
    Environment(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_wins_over_the_process_and_ports_are_told() {
        let own = [EnvironmentVariable {
            name: "CF_INSTANCE_IP".to_owned(),
            value: PlainText("1.2.3.4".to_owned()),
        }];

        let told = of_process(&own, Ipv4Addr::new(10, 0, 0, 7), &[8080, 9090]);

        let value = |name: &str| {
            told.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
        };
        assert_eq!(value("CF_INSTANCE_IP"), Some("10.0.0.7"));
        assert_eq!(value("CF_INSTANCE_ADDR"), Some("10.0.0.7:8080"));
        assert_eq!(
            value("CF_INSTANCE_PORTS"),
            Some(r#"[{"external":8080,"internal":8080},{"external":9090,"internal":9090}]"#)
        );
        assert_eq!(told.0.len(), 5);
    }
}
