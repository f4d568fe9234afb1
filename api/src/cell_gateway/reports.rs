//! Reports: evidence is kept first, then each report is judged as a command of its cell.

use domain::{
    command::{Envelope, ReportNumber},
    id::CellId,
    rep::{NumberedReport, Observed, RefusedReport, ReportsAnswer, ReportsRequest},
    sealed::Digest,
};

use super::{Error, Gateway, recent};

/// How many reports one request may hold.
const REPORTS_MAX: usize = 100;

/// Judges reports in the order of their sequence.
pub(super) async fn take(
    gateway: &Gateway,
    cell_id: &CellId,
    request: ReportsRequest,
) -> Result<ReportsAnswer, Error> {
    check_order(&request)?;
    let mut answer = ReportsAnswer { acknowledged: 0, refused: Vec::new() };
    let mut sequences = Vec::with_capacity(request.reports.len());
    let mut envelopes = Vec::with_capacity(request.reports.len());
    for numbered in request.reports {
        let sequence = numbered.sequence;
        let number = ReportNumber { cell_epoch: request.cell_epoch, sequence };
        answer.acknowledged = sequence;
        match envelope(gateway, cell_id, number, numbered).await? {
            Some(envelope) => {
                sequences.push(sequence);
                envelopes.push(envelope);
            }
            None => answer.refused.push(RefusedReport {
                sequence,
                code: "INVALID".to_owned(),
                message: "this is not reported of this kind of work".to_owned(),
            }),
        }
    }
    let outcomes = gateway.control_plane.bus.submit_all(envelopes).await?;
    for (sequence, outcome) in sequences.into_iter().zip(outcomes) {
        if let Err(rejection) = outcome {
            answer.refused.push(RefusedReport {
                sequence,
                code: rejection.code().to_owned(),
                message: rejection.to_string(),
            });
        }
    }
    answer.refused.sort_by_key(|refused| refused.sequence);
    Ok(answer)
}

fn check_order(request: &ReportsRequest) -> Result<(), Error> {
    let field = "reports";
    if request.reports.is_empty() || request.reports.len() > REPORTS_MAX {
        let problem = format!("must hold from 1 to {REPORTS_MAX} reports");
        return Err(Error::Invalid { field, problem });
    }
    let pairs = request.reports.iter().zip(request.reports.iter().skip(1));
    if pairs.into_iter().any(|(one, next)| next.sequence != one.sequence.saturating_add(1)) {
        let problem = "must be numbered without gaps".to_owned();
        return Err(Error::Invalid { field, problem });
    }
    Ok(())
}

async fn envelope(
    gateway: &Gateway,
    cell_id: &CellId,
    number: ReportNumber,
    numbered: NumberedReport,
) -> Result<Option<Envelope>, Error> {
    let NumberedReport { sequence: _, report } = numbered;
    let evidence = keep_evidence(gateway, cell_id, &report).await?;
    let causation = report.work.placement_epoch.0;
    let Some(command) = report.into_command(cell_id.clone(), number.cell_epoch, evidence) else {
        return Ok(None);
    };
    let command_id = number
        .command_id(cell_id)
        .map_err(|invalid| Error::Invalid { field: "cell_id", problem: invalid.to_string() })?;
    Ok(Some(Envelope {
        correlation: command_id.clone(),
        command_id,
        actor: Gateway::actor(cell_id),
        seen: None,
        causation: Some(causation),
        command,
    }))
}

/// What a cell saw of an ended container is durable before the event that names it. Of what is not
/// placed on it nothing is kept: such a report is refused.
pub(super) async fn keep_evidence(
    gateway: &Gateway,
    cell_id: &CellId,
    report: &domain::rep::Report,
) -> Result<Option<Digest>, Error> {
    // The placement may have been told to the cell by another node.
    gateway.see(report.work.placement_epoch.0).await?;
    let now = &gateway.control_plane.now;
    if !now.read(|world| recent::is_placed(world, cell_id, &report.work)) {
        return Ok(None);
    }
    // Its last lines may be pushed after the report of its end.
    recent::lock(&gateway.recent).note(cell_id, [&report.work]);
    let evidence = match &report.observed {
        Observed::Ended(ended) => &ended.evidence,
        Observed::Killed(killed) => &killed.evidence,
        Observed::Refused(_)
        | Observed::Claimed
        | Observed::Healthy { .. }
        | Observed::Readiness(_)
        | Observed::MayStart
        | Observed::Gone => return Ok(None),
    };
    let owner = report.work.kind.owner();
    let bytes = serde_json::to_vec(evidence).map_err(Error::EncodeEvidence)?;
    let digest = gateway.control_plane.keyring.put_sealed_blob(&owner, &bytes).await;
    digest.map(Some).map_err(Error::Evidence)
}
