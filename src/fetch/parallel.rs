//! Work that is spread over threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Reason, Result};

/// Has up to `threads` threads take one job after the other, and gives what each came to, in their order. `begin` is
/// called in each thread, and what it gives is held until the thread ends. The first fault ends the rest; `what` is what
/// a job is called where its thread ended without an answer.
///
/// # Errors
/// That fault.
pub fn each<J: Sync, T: Send, G>(
    what: &str,
    threads: usize,
    jobs: &[J],
    begin: impl Fn() -> Result<G> + Sync,
    work: impl Fn(&J) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let fault: Mutex<Option<Error>> = Mutex::new(None);
    let fail = |err: Error| {
        next.store(jobs.len(), Ordering::Relaxed);
        held(&fault).get_or_insert(err);
    };
    let take = || {
        let _guard = match begin() {
            Ok(guard) => guard,
            Err(err) => return fail(err),
        };
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(at) else { return };
            match work(job) {
                Ok(answer) => held(&done).push((at, answer)),
                Err(err) => fail(err),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.min(jobs.len()) {
            scope.spawn(take);
        }
    });
    if let Some(err) = fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(err);
    }
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    if done.len() != jobs.len() {
        let what = format!("{what} thread ended without an answer");
        return Err(Error::new(Reason::Internal, what));
    }
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, answer)| answer).collect())
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
