//! Work that is spread over threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// Has up to `threads` threads take one job after the other, and gives what each came to, in their order. `begin` is
/// called in each thread, and what it gives is held until the thread ends. The first fault ends the rest.
///
/// # Errors
/// That fault.
///
/// # Panics
/// Where a job did, with its words.
pub fn each<J: Sync, T: Send, G>(
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
        let started: Vec<_> = (0..threads.min(jobs.len())).map(|_| scope.spawn(take)).collect();
        for thread in started {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    if let Some(err) = fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(err);
    }
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, answer)| answer).collect())
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
