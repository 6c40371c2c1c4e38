//! Processes that are killed, and the writer that `faults.py` runs under fault injection.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use crate::measure::forget_pages;
use crate::store::{self, Op, Result, Store};

/// Ids of the records that a killed writer writes, apart from those of the workload.
const FIRST_ID: u64 = 1 << 40;
const BUCKET: u32 = 40;

fn value_of(id: u64) -> Vec<u8> {
    let mut random = crate::workload::Random(id);
    (0..30).flat_map(|_| random.next().to_le_bytes()).collect()
}

fn commit_batch(store: &mut dyn Store, first: u64, size: u64) -> Result<()> {
    let values: Vec<(u64, Vec<u8>)> = (first..first + size).map(|id| (id, value_of(id))).collect();
    let ops: Vec<Op<'_>> =
        values.iter().map(|(id, value)| Op { id: *id, old_bucket: None, bucket: BUCKET, value }).collect();
    store.commit(&ops)
}

/// Writes batches from `first` on and prints the end of each, until it is killed.
pub fn write_until_killed(kind: &str, dir: &Path, first: u64, size: u64) -> Result<()> {
    let mut store = store::open(kind, dir)?;
    let mut next = first;
    loop {
        commit_batch(&mut *store, next, size)?;
        next += size;
        println!("{next}");
        std::io::stdout().flush()?;
    }
}

/// Writes `batches`, rewrites every second record of each, and lets some expire: what `power.py` records.
///
pub fn write_recorded(kind: &str, dir: &Path, batches: u64) -> Result<()> {
    let mut store = store::open(kind, dir)?;
    let mut expired = 0;
    println!("start");
    std::io::stdout().flush()?;
    for batch in 0..batches {
        let first = FIRST_ID + batch * 20;
        let bucket = u32::try_from(batch)? + 10;
        let mut writes = Vec::new();
        for id in first..first + 20 {
            writes.push((id, None, bucket, value_of(id)));
            if batch > 0 && id % 2 == 0 {
                writes.push((id - 20, Some(bucket - 1), bucket + 4, value_of(id - 20 + (1 << 41)).repeat(5)));
            }
        }
        let ops: Vec<Op<'_>> = writes
            .iter()
            .map(|(id, old_bucket, bucket, value)| Op { id: *id, old_bucket: *old_bucket, bucket: *bucket, value })
            .collect();
        store.commit(&ops)?;
        println!("batch {batch} expired {expired}");
        std::io::stdout().flush()?;
        if batch % 8 == 7 {
            expired = u32::try_from(batch)?;
            // Said before, because an expiry that was not acknowledged may have happened.
            println!("batch {batch} expired {expired}");
            std::io::stdout().flush()?;
            store.expire(expired)?;
            store.reclaim()?;
        }
    }
    Ok(())
}

/// Checks what `write_recorded` left: all of the batches below `batches`, and nothing that was not written.
pub fn check_recorded(kind: &str, dir: &Path, batches: u64, expired: u32) -> Result<()> {
    let mut store = store::open(kind, dir)?;
    let mut found = std::collections::HashMap::new();
    let mut wrong = 0;
    store.scan(&mut |id, bucket, value| {
        let settled = value == value_of(id + (1 << 41)).repeat(5);
        wrong += u64::from(!settled && value != value_of(id));
        wrong += u64::from(found.insert(id, (bucket, settled)).is_some());
    })?;
    let mut lost = 0;
    for id in FIRST_ID..FIRST_ID + batches * 20 {
        let batch = (id - FIRST_ID) / 20;
        let settled = id % 2 == 0 && batch + 1 < batches;
        let bucket = u32::try_from(batch)? + 10 + if settled { 5 } else { 0 };
        if bucket > expired {
            match found.get(&id) {
                Some((found_bucket, found_settled)) if settled => {
                    lost += u64::from(!found_settled || *found_bucket != bucket);
                }
                Some(_) => (),
                None => lost += 1,
            }
        }
    }
    // The store has to go on from here.
    commit_batch(&mut *store, FIRST_ID - 100, 10)?;
    if lost + wrong > 0 { Err(format!("{lost} records lost, {wrong} wrong").into()) } else { Ok(()) }
}

/// Counts the records from `FIRST_ID` on. All have to carry the value that belongs to them.
fn written(store: &mut dyn Store) -> Result<(u64, u64)> {
    let (mut total, mut own, mut wrong) = (0, 0, 0);
    store.scan(&mut |id, _, value| {
        total += 1;
        if id >= FIRST_ID {
            own += 1;
            wrong += u64::from(value != value_of(id));
        }
    })?;
    if wrong > 0 {
        return Err(format!("{wrong} records are wrong").into());
    }
    Ok((total, own))
}

/// Kills a writer with SIGKILL some time after its first commit. Returns the id up to which it has acknowledged.
fn kill_writer(kind: &str, dir: &Path, first: u64, size: u64, after: Duration) -> Result<u64> {
    let mut child = Command::new(env::current_exe()?)
        .args(["write-until-killed", kind])
        .arg(dir)
        .args([first.to_string(), size.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("no output")?;
    let acknowledged = thread::spawn(move || {
        let mut last = 0;
        let mut deadline = None;
        for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
            last = line.parse().unwrap_or(last);
            let deadline = deadline.get_or_insert_with(|| Instant::now() + after);
            if Instant::now() >= *deadline {
                let _ = child.kill();
            }
        }
        let _ = child.wait();
        last
    });
    let last = acknowledged.join().map_err(|_| "the reader panicked")?;
    if last == 0 { Err("the writer failed".into()) } else { Ok(last) }
}

/// Reopens a store of a million records after its writer has been killed.
pub fn kill_and_reopen(kind: &str, dir: &Path, records: usize) -> Result<()> {
    let mut acknowledged = FIRST_ID;
    for (round, after_ms) in [37, 411, 823].into_iter().enumerate() {
        acknowledged = kill_writer(kind, dir, acknowledged, 1_000, Duration::from_millis(after_ms))?;
        let pages = if round == 0 { "warm" } else { "cold" };
        if pages == "cold" {
            forget_pages(dir)?;
        }
        let start = Instant::now();
        let mut store = store::open(kind, dir)?;
        let opened = start.elapsed();
        let start = Instant::now();
        let (total, own) = written(&mut *store)?;
        let lost = (acknowledged - FIRST_ID).saturating_sub(own);
        println!(
            "{kind:13} kill -9 in a commit, {pages} pages: open {:.0} ms + scan {:.0} ms; {total} records, {lost} lost",
            opened.as_secs_f64() * 1e3,
            start.elapsed().as_secs_f64() * 1e3
        );
        if lost > 0 || total < records as u64 {
            return Err("records are lost".into());
        }
        acknowledged = FIRST_ID + own;
    }
    Ok(())
}

/// Kills writers of a small store again and again.
pub fn kills(root: &Path, times: u64) -> Result<()> {
    for kind in store::KINDS {
        let dir = root.join(kind);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        let mut next = FIRST_ID;
        for round in 0..times {
            let acknowledged = kill_writer(kind, &dir, next, 50, Duration::from_millis(round * 7 % 97))?;
            let mut store = store::open(kind, &dir)?;
            let (_, own) = written(&mut *store)?;
            if FIRST_ID + own < acknowledged {
                return Err(format!("{kind}: {} records lost", acknowledged - FIRST_ID - own).into());
            }
            next = FIRST_ID + own;
        }
        println!("{kind:13} {times} kills, {} records, none lost", next - FIRST_ID);
        fs::remove_dir_all(&dir)?;
    }
    Ok(())
}

/// Writes batches of 100 records under faults that others inject, and reports what an operator would see.
///
/// After the third failure, removes `filler`, which frees space on a full disk.
pub fn write_under_faults(kind: &str, dir: &Path, batches: u64, filler: Option<&Path>) -> Result<()> {
    let mut store = match store::open(kind, dir) {
        Ok(store) => store,
        Err(error) => {
            println!("open: refused: {error}");
            return Ok(());
        }
    };
    match written(&mut *store) {
        Ok((_, own)) => println!("open: {own} records"),
        Err(error) => println!("open: scan failed: {error}"),
    }
    let (mut failures, mut after_failure, mut acknowledged, mut unknown) = (0, 0, Vec::new(), Vec::new());
    for batch in 0..batches {
        let first = FIRST_ID + batch * 100;
        match commit_batch(&mut *store, first, 100) {
            Ok(()) => {
                acknowledged.push(first);
                after_failure += u64::from(failures > 0);
            }
            Err(error) => {
                unknown.push(first);
                failures += 1;
                if failures <= 4 {
                    println!("commit {batch}: {error}");
                }
                if failures == 1 {
                    let read = acknowledged.first().map(|first| store.get(*first, BUCKET));
                    match read {
                        Some(Ok(Some(_))) => println!("read after the failure: works"),
                        Some(Ok(None)) => println!("read after the failure: RECORD MISSING"),
                        Some(Err(error)) => println!("read after the failure: {error}"),
                        None => (),
                    }
                }
                if failures == 3
                    && let Some(filler) = filler
                {
                    fs::remove_file(filler)?;
                    println!("space freed");
                }
            }
        }
    }
    println!("{failures} commits failed; {after_failure} succeeded after the first failure, without reopening");
    drop(store);
    let mut attempts = 0;
    let mut store = loop {
        attempts += 1;
        match store::open(kind, dir) {
            Ok(store) => break store,
            Err(error) if attempts == 4 => return Err(error),
            Err(error) => println!("reopen: refused: {error}"),
        }
    };
    let mut present = std::collections::HashSet::new();
    store.scan(&mut |id, _, value| {
        if value == value_of(id) {
            present.insert(id);
        }
    })?;
    let count = |firsts: &[u64]| -> usize {
        firsts.iter().flat_map(|first| *first..first + 100).filter(|id| present.contains(id)).count()
    };
    println!(
        "reopen: {} of {} acknowledged records, {} of {} of the failed commits",
        count(&acknowledged),
        acknowledged.len() * 100,
        count(&unknown),
        unknown.len() * 100
    );
    match commit_batch(&mut *store, FIRST_ID + batches * 100, 100) {
        Ok(()) => println!("commit after reopening: works"),
        Err(error) => println!("commit after reopening: {error}"),
    }
    Ok(())
}

/// Opens a store, holds it until the standard input ends.
pub fn hold(kind: &str, dir: &Path) -> Result<()> {
    let _store = store::open(kind, dir)?;
    println!("open");
    std::io::stdout().flush()?;
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
