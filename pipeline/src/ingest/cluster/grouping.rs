//! Divides the parts of an export among tasks: takes them as listed, gives jobs of groups, each group one task's.
//!
//! A task writes at least one file for each partition that its parts have, so few large groups are better than many small ones.

use super::TaskCount;
use crate::source::{ListedPart, PartAddress};

/// What a task reads unless there are more cores than tasks: a second or two of decoding for each platform's file.
const GROUP_BYTES: u64 = 128 << 20;

/// The size of a part whose size is unknown. Real ones have some 10 MB.
const TYPICAL_PART_BYTES: u64 = 10 << 20;

/// Tasks of a job for each core: some parts take longer than others.
const TASKS_PER_CORE: usize = 2;

/// The most parts of a job, and the most text of their addresses. A signed URL has some 700 bytes, and Spark writes a
/// job's closure to a disk if it has more than a mebibyte.
const MAX_JOB_PARTS: usize = 1000;
const MAX_JOB_TEXT_BYTES: usize = 768 << 10;

/// The parts of one task.
pub(super) type Group = Vec<ListedPart>;

/// Divides parts into jobs, to be run one after the other, and these into groups of about the same size. Parts keep their order
/// within a group.
pub(super) fn jobs_of(parts: Vec<ListedPart>, count: TaskCount) -> Vec<Vec<Group>> {
    let text_bytes: usize = parts.iter().map(|part| text_bytes(&part.address)).sum();
    let num_jobs = parts.len().div_ceil(MAX_JOB_PARTS).max(text_bytes.div_ceil(MAX_JOB_TEXT_BYTES)).max(1);
    let num_parts = parts.len().div_ceil(num_jobs).max(1);
    let mut parts = parts.into_iter();
    let jobs = std::iter::from_fn(|| {
        let job: Vec<_> = parts.by_ref().take(num_parts).collect();
        (!job.is_empty()).then_some(job)
    });
    jobs.map(|job| groups_of(job, count)).collect()
}

fn groups_of(mut parts: Vec<ListedPart>, count: TaskCount) -> Vec<Group> {
    let bytes = |part: &ListedPart| part.bytes.unwrap_or(TYPICAL_PART_BYTES);
    let num_tasks = match count {
        TaskCount::Exactly(num_tasks) => num_tasks.get(),
        TaskCount::ByCores(num_cores) => {
            let wanted = parts.iter().map(bytes).sum::<u64>().div_ceil(GROUP_BYTES);
            let most = num_cores.get().saturating_mul(TASKS_PER_CORE);
            usize::try_from(wanted).unwrap_or(usize::MAX).clamp(1, most)
        }
    };
    let mut groups = vec![(0, Group::new()); num_tasks.min(parts.len())];
    // The largest first, each to the group with the least so far: of parts of one size, that is one after the other.
    parts.sort_by_key(|part| std::cmp::Reverse(bytes(part)));
    for part in parts {
        let Some(least) = groups.iter_mut().min_by_key(|(sum, _)| *sum) else { break };
        // An empty part is work, too.
        least.0 += bytes(&part).max(1);
        least.1.push(part);
    }
    for (_, group) in &mut groups {
        group.sort_by_key(|part| part.index);
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn text_bytes(address: &PartAddress) -> usize {
    match address {
        PartAddress::Url(url) => url.as_url().as_str().len(),
        PartAddress::File { name, path, .. } => name.len() + path.as_os_str().len(),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    fn parts(sizes: impl IntoIterator<Item = Option<u64>>) -> Vec<ListedPart> {
        let part = |(index, bytes): (usize, Option<u64>)| ListedPart {
            index: index as u64,
            bytes,
            address: PartAddress::File { name: format!("p{index}"), path: "/p".into(), modified_secs: 0 },
        };
        sizes.into_iter().enumerate().map(part).collect()
    }

    fn indices(jobs: &[Vec<Group>]) -> Vec<Vec<Vec<u64>>> {
        let group = |group: &Group| group.iter().map(|part| part.index).collect();
        jobs.iter().map(|job| job.iter().map(group).collect()).collect()
    }

    fn exactly(number: usize) -> TaskCount {
        TaskCount::Exactly(NonZeroUsize::new(number).unwrap())
    }

    fn by_cores(number: usize) -> TaskCount {
        TaskCount::ByCores(NonZeroUsize::new(number).unwrap())
    }

    #[test]
    fn parts_of_unknown_size_go_round() {
        let jobs = jobs_of(parts([None; 5]), exactly(2));
        assert_eq!(indices(&jobs), [[vec![0, 2, 4], vec![1, 3]]]);
    }

    #[test]
    fn groups_have_about_the_same_size() {
        let jobs = jobs_of(parts([1, 9, 2, 5, 3].map(Some)), exactly(2));
        assert_eq!(indices(&jobs), [[vec![0, 1], vec![2, 3, 4]]]);
        let jobs = jobs_of(parts([Some(0); 4]), exactly(3));
        assert_eq!(jobs[0].iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1]);
    }

    #[test]
    fn number_of_tasks_follows_the_bytes_up_to_the_cores() {
        let check = |sizes: Vec<Option<u64>>, count, expected: usize| {
            assert_eq!(jobs_of(parts(sizes), count)[0].len(), expected);
        };
        check(vec![Some(1); 16], by_cores(2), 1);
        check(vec![Some(64 << 20); 16], by_cores(2), 4);
        check(vec![Some(64 << 20); 16], by_cores(100), 8);
        check(vec![None; 16], by_cores(100), 2);
        check(vec![None; 2], exactly(9), 2);
    }

    #[test]
    fn many_parts_are_several_jobs() {
        let jobs = jobs_of(parts(vec![Some(1); 2001]), exactly(4));
        let sizes: Vec<Vec<_>> = jobs.iter().map(|job| job.iter().map(Vec::len).collect()).collect();
        assert_eq!(sizes, [[167, 167, 167, 166]; 3]);
    }
}
