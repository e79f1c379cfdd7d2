//! How many CPUs this process may use: the affinity mask and the cgroup quota, both.
//!
//! A pool as wide as the machine inside a container of two CPUs gets throttled: its threads use
//! up the quota of a period at its beginning and all stand still for the rest of it. The mask
//! says which CPUs, the quota says how much of them; the smaller one counts. A quota of two and
//! a half CPUs counts as two, as in [`std::thread::available_parallelism`]: the third thread
//! would be the one that gets the others throttled.
//!
//! Everything that is read is text, so every decision here is a pure function of texts; only
//! [`usable`] opens files. Where there are no such files, std's answer stands.

#![forbid(unsafe_code)]

use std::num::NonZeroUsize;

#[cfg(not(any(loom, shuttle)))]
use crate::base::sync::plain::{AtomicUsize, Ordering};

/// The CPUs that this thread may use; at least one.
pub(crate) fn usable() -> usize {
    #[cfg(all(not(loom), any(test, feature = "test-util")))]
    if crate::base::simulated::is_on() {
        // The same on every machine.
        return 2;
    }
    let known = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    if cfg!(target_os = "linux") {
        limited(known, |path| std::fs::read_to_string(path).ok())
    } else {
        known
    }
}

/// Could this process use several CPUs when it was first asked? A hint: masks and quotas may change.
#[cfg(not(any(loom, shuttle)))]
pub(crate) fn are_several() -> bool {
    // Not a `Once`: a fork might leave it half done. Who asks at the same time reads the same files.
    static FIRST_ANSWER: AtomicUsize = AtomicUsize::new(0);
    // Ordering: Relaxed: the number is all there is.
    let mut count = FIRST_ANSWER.load(Ordering::Relaxed);
    if count == 0 {
        count = usable();
        FIRST_ANSWER.store(count, Ordering::Relaxed);
    }
    count > 1
}

/// The smallest of `known`, the mask and every quota on the way up from this process' groups.
fn limited(known: usize, read: impl Fn(&str) -> Option<String>) -> usize {
    let mask = read("/proc/thread-self/status")
        .or_else(|| read("/proc/self/status"))
        .and_then(|status| mask(&status));
    let quota = group_quota(&read);
    known
        .min(mask.unwrap_or(usize::MAX))
        .min(quota.unwrap_or(usize::MAX))
        .max(1)
}

/// The number of CPUs in the line `Cpus_allowed_list` of a thread's status.
fn mask(status: &str) -> Option<usize> {
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut count = 0_usize;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (
            first.trim().parse::<u32>().ok()?,
            last.trim().parse::<u32>().ok()?,
        );
        count = count.checked_add(last.checked_sub(first)? as usize + 1)?;
    }
    Some(count)
}

/// The two generations of control groups; a machine may have both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    One,
    Two,
}

/// The tightest quota over both generations and all parents, in whole CPUs.
fn group_quota(read: &impl Fn(&str) -> Option<String>) -> Option<usize> {
    let (groups, mounts) = (read("/proc/self/cgroup")?, read("/proc/self/mountinfo")?);
    let mut tightest = None::<usize>;
    for generation in [Generation::One, Generation::Two] {
        let (Some(group), Some(mount)) = (group(&groups, generation), mount(&mounts, generation))
        else {
            continue;
        };
        for folder in folders(group, &mount) {
            let file = |name: &str| read(&format!("{folder}/{name}"));
            let quota = match generation {
                Generation::Two => file("cpu.max").and_then(|text| {
                    let (quota, period) = text.trim().split_once(' ')?;
                    whole_cpus(quota, period)
                }),
                Generation::One => file("cpu.cfs_quota_us")
                    .zip(file("cpu.cfs_period_us"))
                    .and_then(|(quota, period)| whole_cpus(&quota, &period)),
            };
            tightest = [tightest, quota].into_iter().flatten().min();
        }
    }
    tightest
}

/// `quota / period`, rounded down, at least one; `None` for no limit and for nonsense.
fn whole_cpus(quota: &str, period: &str) -> Option<usize> {
    // No limit is "max" in the second generation and -1 in the first: neither is a u64.
    let quota = quota.trim().parse::<u64>().ok()?;
    let period = period.trim().parse::<u64>().ok().filter(|&us| us > 0)?;
    Some(usize::try_from((quota / period).max(1)).unwrap_or(usize::MAX))
}

/// The group of this process, from lines `number:controllers:path`.
fn group(groups: &str, generation: Generation) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let found = match generation {
            Generation::Two => number == "0" && controllers.is_empty(),
            Generation::One => controllers.split(',').any(|name| name == "cpu"),
        };
        found.then_some(path)
    })
}

/// Where the groups of one generation are mounted.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// The group that the mount point shows.
    root: String,
    point: String,
}

/// Finds the mount in lines `id parent device root point options tags.. - type source options`.
fn mount(mounts: &str, generation: Generation) -> Option<Mount> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let (mut place, mut kind) = (place.split(' '), kind.split(' '));
        let (root, point) = (place.nth(3)?, place.next()?);
        let (name, options) = (kind.next()?, kind.nth(1)?);
        let found = match generation {
            Generation::Two => name == "cgroup2",
            Generation::One => name == "cgroup" && options.split(',').any(|name| name == "cpu"),
        };
        found.then(|| Mount {
            root: unescaped(root),
            point: unescaped(point),
        })
    })
}

/// Undoes the octal escapes of mountinfo: space, tab, newline and backslash.
fn unescaped(field: &str) -> String {
    field
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

/// The folder of `group` and those of its parents, as far as the mount shows them.
fn folders(group: &str, mount: &Mount) -> Vec<String> {
    let root = mount.root.trim_end_matches('/');
    // A group that the mount does not show (another namespace): only the mount itself is left.
    let below = group
        .strip_prefix(root)
        .filter(|rest| rest.starts_with('/') && !rest.contains("/.."))
        .unwrap_or("");
    let mut below = below.trim_end_matches('/');
    let mut folders = Vec::new();
    loop {
        folders.push(format!("{}{below}", mount.point));
        match below.rfind('/') {
            Some(end) => below = &below[..end],
            None => return folders,
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Generation, Mount, folders, group, limited, mask, mount, usable, whole_cpus};

    const MOUNTS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
40 31 0:37 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";
    const GROUPS: &str =
        "4:memory:/m\n3:cpuset:/other\n2:cpu,cpuacct:/jobs/one\n0::/user.slice/app\n";

    #[test]
    fn masks_of_all_forms_are_counted() {
        for (list, count) in [
            ("0", Some(1)),
            ("0-1", Some(2)),
            ("0-3,8,10-11", Some(7)),
            ("", None),
            ("3-1", None),
            ("all", None),
            ("0-4294967296", None),
        ] {
            let status =
                format!("Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t{list}\nMems: 1\n");
            assert_eq!(mask(&status), count, "{list:?}");
        }
        assert_eq!(mask("Name:\tx\n"), None);
    }

    #[test]
    fn quotas_round_down_but_never_to_zero() {
        for (quota, period, cpus) in [
            ("200000", "100000", Some(2)),
            ("250000\n", "100000\n", Some(2)),
            ("50000", "100000", Some(1)),
            ("0", "100000", Some(1)),
            ("max", "100000", None),
            ("-1", "100000", None),
            ("100000", "0", None),
            ("", "", None),
            ("18446744073709551615", "1", Some(usize::MAX)),
        ] {
            assert_eq!(whole_cpus(quota, period), cpus, "{quota:?} / {period:?}");
        }
    }

    #[test]
    fn groups_of_both_generations_are_found() {
        assert_eq!(group(GROUPS, Generation::One), Some("/jobs/one"));
        assert_eq!(group(GROUPS, Generation::Two), Some("/user.slice/app"));
        assert_eq!(
            group("3:cpuset:/x\n", Generation::One),
            None,
            "cpuset is not cpu"
        );
        assert_eq!(group("garbage\n", Generation::Two), None);
    }

    #[test]
    fn mounts_of_both_generations_are_found() {
        let at = |root: &str, point: &str| {
            Some(Mount {
                root: root.into(),
                point: point.into(),
            })
        };
        assert_eq!(
            mount(MOUNTS, Generation::One),
            at("/", "/sys/fs/cgroup/cpu,cpuacct")
        );
        assert_eq!(
            mount(MOUNTS, Generation::Two),
            at("/", "/sys/fs/cgroup/unified")
        );
        assert_eq!(
            mount(
                "1 2 0:3 /box /my\\040groups rw - cgroup2 none rw\n",
                Generation::Two
            ),
            at("/box", "/my groups")
        );
        assert_eq!(mount("1 2 0:3 / /x rw\n", Generation::Two), None);
    }

    #[test]
    fn a_group_is_looked_up_with_all_its_parents() {
        let shown = |root: &str| Mount {
            root: root.into(),
            point: "/g".into(),
        };
        assert_eq!(folders("/a/b", &shown("/")), ["/g/a/b", "/g/a", "/g"]);
        assert_eq!(folders("/", &shown("/")), ["/g"]);
        assert_eq!(folders("/a/b", &shown("/a")), ["/g/b", "/g"]);
        assert_eq!(folders("/a", &shown("/a")), ["/g"]);
        assert_eq!(
            folders("/abc", &shown("/a")),
            ["/g"],
            "not a child by its name alone"
        );
        assert_eq!(
            folders("/../x", &shown("/")),
            ["/g"],
            "outside the namespace"
        );
    }

    #[test]
    fn the_smallest_of_mask_and_quotas_counts() {
        let with = |files: &[(&str, &str)]| {
            limited(64, |path| {
                files
                    .iter()
                    .find(|(name, _)| *name == path)
                    .map(|(_, text)| (*text).to_owned())
            })
        };
        let (groups, mounts) = (
            ("/proc/self/cgroup", GROUPS),
            ("/proc/self/mountinfo", MOUNTS),
        );
        let status = ("/proc/self/status", "Cpus_allowed_list:\t0-15\n");
        let own = (
            "/sys/fs/cgroup/unified/user.slice/app/cpu.max",
            "800000 100000\n",
        );
        let parent = (
            "/sys/fs/cgroup/unified/user.slice/cpu.max",
            "300000 100000\n",
        );
        let first = (
            "/sys/fs/cgroup/cpu,cpuacct/jobs/one/cpu.cfs_quota_us",
            "200000\n",
        );
        let period = (
            "/sys/fs/cgroup/cpu,cpuacct/jobs/one/cpu.cfs_period_us",
            "100000\n",
        );
        assert_eq!(with(&[]), 64, "no files: std's answer stands");
        assert_eq!(with(&[status]), 16);
        assert_eq!(with(&[groups, mounts, own]), 8);
        assert_eq!(with(&[status, groups, mounts, own, parent]), 3);
        assert_eq!(
            with(&[status, groups, mounts, own, parent, first]),
            3,
            "no period"
        );
        assert_eq!(with(&[groups, mounts, own, parent, first, period]), 2);
    }

    #[test]
    fn this_machine_has_at_least_one_and_no_more_than_std_says() {
        let known = std::thread::available_parallelism().unwrap().get();
        assert!((1..=known).contains(&usable()));
    }
}
