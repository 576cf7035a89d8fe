//! Which task this process is to do, and who says so: the one integer that every scheduler gives its tasks.

use crate::context::Context;
use crate::error::{Error, Reason, Result};

/// A scheduler's variables: its name here, the variable of the index, what the first index is, and the variables of the job.
struct Known {
    name: &'static str,
    index: &'static str,
    first: u32,
    jobs: &'static [&'static str],
}

/// SGE counts from 1 and sets `undefined` outside of an array. HTCondor has no variable: its `$(Process)` goes to `--index`.
const KNOWN: &[Known] = &[
    Known {
        name: "slurm",
        index: "SLURM_ARRAY_TASK_ID",
        first: 0,
        jobs: &["SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID"],
    },
    Known { name: "kubernetes", index: "JOB_COMPLETION_INDEX", first: 0, jobs: &["JOB_NAME"] },
    Known { name: "pbs", index: "PBS_ARRAY_INDEX", first: 0, jobs: &["PBS_JOBID"] },
    Known { name: "sge", index: "SGE_TASK_ID", first: 1, jobs: &["JOB_ID"] },
    Known {
        name: "aws-batch",
        index: "AWS_BATCH_JOB_ARRAY_INDEX",
        first: 0,
        jobs: &["AWS_BATCH_JOB_ID"],
    },
];

/// Who started this process, and for which task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    pub index: u32,
    /// As in [`crate::record::task::TaskOf`].
    pub scheduler: String,
    pub job: Option<String>,
    pub node: String,
}

/// The task to do: `given` by a flag, else the one variable of a scheduler that is set. `engine` names the engine of admit's
/// own that started this process, where one did.
///
/// # Errors
/// [`Reason::BadArgument`] where nothing says which, or two schedulers do.
pub fn asked(context: &Context, given: Option<u32>, engine: Option<&str>) -> Result<Asked> {
    let vars = context.host.vars();
    let node = vars
        .get("SLURMD_NODENAME")
        .or_else(|| vars.get("NODE_NAME"))
        .cloned()
        .unwrap_or_else(crate::host::name);
    let set: Vec<(&Known, &String)> = KNOWN
        .iter()
        .filter_map(|known| vars.get(known.index).map(|value| (known, value)))
        .filter(|(known, value)| !(known.name == "sge" && *value == "undefined"))
        .collect();
    let job = |known: &Known| known.jobs.iter().find_map(|name| vars.get(*name).cloned());
    if let Some(index) = given {
        let by = engine.map(|name| (name.to_owned(), None));
        let by = by.or_else(|| set.first().map(|(known, _)| (known.name.to_owned(), job(known))));
        let (scheduler, job) = by.unwrap_or(("none".into(), None));
        return Ok(Asked { index, scheduler, job, node });
    }
    match set.as_slice() {
        [] => Err(Error::new(Reason::BadArgument, "nothing says which task to do")
            .expected("--index N, or the array variable of a scheduler")
            .found("neither")
            .hint(format!(
                "add --index 0; read are {}",
                KNOWN.iter().map(|known| known.index).collect::<Vec<_>>().join(", ")
            ))),
        [(known, value)] => {
            let index = value.parse::<u32>().ok().and_then(|n| n.checked_sub(known.first));
            let index = index.ok_or_else(|| {
                Error::new(Reason::BadArgument, "the scheduler's index is no number of a task")
                    .at(known.index)
                    .expected(format!("a number from {}", known.first))
                    .found((*value).clone())
            })?;
            Ok(Asked { index, scheduler: known.name.into(), job: job(known), node })
        }
        more => {
            let names: Vec<&str> = more.iter().map(|(known, _)| known.index).collect();
            Err(Error::new(Reason::BadArgument, "two schedulers say which task to do")
                .expected("the array variable of one scheduler")
                .found(names.join(", "))
                .hint("say which one with --index"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::host::Host;

    fn ask(vars: &[(&str, &str)], given: Option<u32>) -> Result<Asked> {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let host = Host::with(vars, PathBuf::from("/"));
        asked(&Context::plain(host), given, None)
    }

    #[test]
    fn each_scheduler_gives_the_index_in_its_own_variable() {
        for (vars, scheduler, index, job) in [
            (
                vec![("SLURM_ARRAY_TASK_ID", "7"), ("SLURM_ARRAY_JOB_ID", "12")],
                "slurm",
                7,
                Some("12"),
            ),
            (vec![("JOB_COMPLETION_INDEX", "0")], "kubernetes", 0, None),
            (vec![("PBS_ARRAY_INDEX", "3"), ("PBS_JOBID", "9[3]")], "pbs", 3, Some("9[3]")),
            (vec![("SGE_TASK_ID", "1"), ("JOB_ID", "4")], "sge", 0, Some("4")),
            (vec![("AWS_BATCH_JOB_ARRAY_INDEX", "2")], "aws-batch", 2, None),
            (vec![("SGE_TASK_ID", "undefined"), ("PBS_ARRAY_INDEX", "3")], "pbs", 3, None),
        ] {
            let asked = ask(&vars, None).unwrap();
            assert_eq!((asked.scheduler.as_str(), asked.index), (scheduler, index));
            assert_eq!(asked.job.as_deref(), job);
        }
    }

    #[test]
    fn an_index_that_nobody_or_two_give_is_refused() {
        let two = [("SLURM_ARRAY_TASK_ID", "7"), ("JOB_COMPLETION_INDEX", "8")];
        for vars in [&[][..], &two, &[("SGE_TASK_ID", "0")], &[("PBS_ARRAY_INDEX", "-1")]] {
            assert_eq!(ask(vars, None).unwrap_err().reason(), Reason::BadArgument, "{vars:?}");
        }
        let asked = ask(&two, Some(3)).unwrap();
        assert_eq!((asked.index, asked.scheduler.as_str()), (3, "slurm"));
        assert_eq!(ask(&[], Some(3)).unwrap().scheduler, "none");
    }
}
