//! The engine for a Slurm cluster: an array of tasks, and a collector that comes after whatever ended.

use std::path::Path;
use std::process::{Command, Stdio};

use super::directory::{Campaign, LOGS};
use crate::context::Context;
use crate::error::{Error, Kind, Reason, Result};
use crate::host::quotes;

/// What the scheduler is asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct Slurm {
    /// Runs at a time
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub jobs: u32,
    // Below about 300 the sandbox of a small agent is killed.
    /// Memory of a run (slurm)
    #[arg(long, value_name = "MEGABYTES", default_value_t = 1500)]
    pub memory: u32,
    /// Time limit of a run (slurm)
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u32).range(2..))]
    pub minutes: u32,
    /// The partition (slurm)
    #[arg(long, value_name = "NAME", value_parser = partition)]
    pub partition: Option<String>,
}

fn partition(text: &str) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b',');
    match !text.is_empty() && text.bytes().all(good) {
        true => Ok(text.to_owned()),
        false => Err("a partition is written with letters, digits, - _ . and ,".into()),
    }
}

/// Seconds before its time limit at which a task is told to stop: sealing takes two.
const NOTICE: u32 = 45;

/// The two scripts: of the array, and of the collector that is submitted behind it. `admit` is the program to start, with
/// its global flags.
pub fn scripts(campaign: &Campaign, slurm: &Slurm, admit: &[String]) -> (String, String) {
    let plan = &campaign.plan;
    let dir = campaign.dir.display().to_string();
    let admit = admit.iter().map(|part| quotes(part)).collect::<Vec<_>>().join(" ");
    let name = format!("admit-{}", plan.name);
    let logs = Path::new(&dir).join(LOGS);
    let partition = slurm.partition.as_ref().map(|name| format!("#SBATCH --partition={name}\n"));
    let partition = partition.unwrap_or_default();
    let (last, jobs) = (plan.tasks().saturating_sub(1), slurm.jobs);
    let (memory, minutes) = (slurm.memory, slurm.minutes);
    let again = Kind::Stopped.exit_code();
    // The shell is told to stop before the time limit and tells admit, which seals. A task that says nothing about the
    // agent goes back into the queue while the plan has attempts left; a node that was lost does the same by --requeue.
    let array = format!(
        "#!/bin/sh\n\
         #SBATCH --job-name={name}\n\
         #SBATCH --array=0-{last}%{jobs}\n\
         #SBATCH --ntasks=1\n\
         #SBATCH --mem={memory}\n\
         #SBATCH --time={minutes}\n\
         {partition}\
         #SBATCH --signal=B:TERM@{NOTICE}\n\
         #SBATCH --requeue\n\
         #SBATCH --open-mode=append\n\
         #SBATCH --output={logs}/%A_%a.txt\n\
         trap 'kill -TERM \"$pid\" 2>/dev/null' TERM INT\n\
         {admit} campaign task {dir} --plan {digest} &\n\
         pid=$!\n\
         wait \"$pid\"; code=$?\n\
         while kill -0 \"$pid\" 2>/dev/null; do wait \"$pid\"; code=$?; done\n\
         if [ \"$code\" = {again} ] && [ \"${{SLURM_RESTART_COUNT:-0}}\" -lt {retries} ]; then\n\
         \x20   scontrol requeue \"${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}\"\n\
         fi\n\
         exit \"$code\"\n",
        logs = logs.display(),
        dir = quotes(&dir),
        digest = campaign.digest,
        retries = plan.attempts - 1,
    );
    let collector = format!(
        "#!/bin/sh\n\
         #SBATCH --job-name={name}-count\n\
         #SBATCH --ntasks=1\n\
         #SBATCH --mem={memory}\n\
         {partition}\
         #SBATCH --output={logs}/count.txt\n\
         exec {admit} campaign seal {dir} --plan {digest}\n",
        logs = logs.display(),
        dir = quotes(&dir),
        digest = campaign.digest,
    );
    (array, collector)
}

/// Submits both: the numbers of the array's job and of the collector's. The collector waits for the end of every task,
/// however it ended.
///
/// # Errors
/// [`Reason::NotFound`] without `sbatch`; [`Reason::SubmitFailed`] with what it said.
pub fn submit(
    context: &Context,
    campaign: &Campaign,
    scripts: &(String, String),
) -> Result<(String, String)> {
    let sbatch = context.host.program("sbatch").ok_or_else(|| {
        Error::new(Reason::NotFound, "there is no sbatch on this machine")
            .expected("Slurm's sbatch in PATH")
            .hint("submit from a machine of the cluster, or see the scripts with --print")
    })?;
    let logs = campaign.dir.join(LOGS);
    std::fs::create_dir_all(&logs).map_err(|err| Error::io("make", &logs, err))?;
    let send = |script: &str, more: &[String]| -> Result<String> {
        let mut child = Command::new(&sbatch)
            .arg("--parsable")
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|err| Error::io("start", &sbatch, err))?;
        if let Some(mut input) = child.stdin.take() {
            use std::io::Write as _;
            match input.write_all(script.as_bytes()) {
                // It may refuse without reading: what it says then is the answer.
                Err(err) if err.kind() != std::io::ErrorKind::BrokenPipe => {
                    return Err(Error::io("write to", &sbatch, err));
                }
                _ => {}
            }
        }
        let out = child.wait_with_output().map_err(|err| Error::io("wait for", &sbatch, err))?;
        let text = String::from_utf8_lossy(&out.stdout);
        // `NUMBER`, or `NUMBER;CLUSTER`.
        let job = text.trim().split(';').next().unwrap_or_default().to_owned();
        if !out.status.success() || job.is_empty() || !job.bytes().all(|b| b.is_ascii_digit()) {
            let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
            return Err(Error::new(Reason::SubmitFailed, "the scheduler took no job")
                .at(sbatch.display().to_string())
                .expected("the number of a job")
                .found(if said.is_empty() { out.status.to_string() } else { said }));
        }
        Ok(job)
    };
    let array = send(&scripts.0, &[])?;
    let collector = send(&scripts.1, &[format!("--dependency=afterany:{array}")])?;
    Ok((array, collector))
}
