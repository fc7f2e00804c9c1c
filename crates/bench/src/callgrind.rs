//! What callgrind writes.

use std::collections::HashSet;

/// What it counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Profile {
    pub(crate) instructions: f64,
    /// Calls of the allocator for new memory.
    pub(crate) allocations: f64,
}

/// The allocator's functions that give new memory, of which none calls another.
const ALLOCATING: [&str; 5] = ["mi_malloc", "mi_malloc_aligned", "mi_zalloc", "mi_zalloc_aligned", "malloc"];

/// Reads a file of callgrind. A function is written `(7) name` the first time and `(7)` from then on.
pub(crate) fn profile(text: &str) -> Option<Profile> {
    let mut allocating: HashSet<&str> = HashSet::new();
    let (mut is_callee, mut allocations, mut instructions) = (false, 0.0, None);
    for line in text.lines() {
        if let Some(function) = line.strip_prefix("cfn=").or_else(|| line.strip_prefix("fn=")) {
            let (number, name) = function.split_once(' ').unwrap_or((function, ""));
            if ALLOCATING.contains(&name) {
                allocating.insert(number);
            }
            is_callee = line.starts_with("cfn=") && allocating.contains(number);
        } else if let Some(calls) = line.strip_prefix("calls=").filter(|_| is_callee) {
            allocations += calls.split(' ').next()?.parse::<f64>().ok()?;
        } else if let Some(total) = line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")) {
            instructions = total.split(' ').next()?.parse().ok();
        }
    }
    Some(Profile { instructions: instructions?, allocations })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_the_allocator_are_added_up_by_number_and_by_name() {
        let text = "version: 1\nevents: Ir\nfn=(1) main\n16 400\ncfn=(2) mi_malloc\ncalls=3 0\n16 120\ncfn=(3) free\n\
                    calls=9 0\n16 90\nfn=(4) other\ncfn=(2)\ncalls=2 0\n12 80\nfn=(2)\n1 200\ntotals: 1090\n";
        assert_eq!(profile(text), Some(Profile { instructions: 1090.0, allocations: 5.0 }));
        assert_eq!(profile("version: 1\n"), None);
    }
}
