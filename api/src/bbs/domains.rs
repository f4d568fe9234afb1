//! Freshness domains: who vouches that its wishes are complete, and until when.

use domain::{bbs::freshness_domain, id::FreshnessDomainName, units::Milliseconds};

use super::{call::Call, error::Failure, invalid::Faults, proto};

pub(super) async fn list(call: Call, _: ()) -> Result<proto::DomainsResponse, Failure> {
    let now = call.now();
    let domains = call.control_plane().now.read(|world| {
        let fresh = world.aggregates().freshness_domains().filter(|domain| domain.is_fresh(now));
        fresh.map(|domain| domain.name.to_string()).collect()
    });
    Ok(proto::DomainsResponse { error: None, domains })
}

/// No time to live is for ever, as in Diego.
pub(super) async fn upsert(
    call: Call,
    request: proto::UpsertDomainRequest,
) -> Result<proto::UpsertDomainResponse, Failure> {
    let mut faults = Faults::default();
    faults.not_empty("domain", &request.domain);
    let name = FreshnessDomainName::new(&request.domain);
    if name.is_err() && faults.is_empty() {
        faults.field("domain");
    }
    faults.check()?;
    let name = name.map_err(|_| Failure::invalid_request())?;
    let seconds = u64::from(request.ttl);
    let time_to_live = (seconds > 0).then(|| Milliseconds::from_seconds(seconds));
    call.submit(freshness_domain::Command::Upsert { name, time_to_live }).await?;
    Ok(proto::UpsertDomainResponse { error: None })
}
