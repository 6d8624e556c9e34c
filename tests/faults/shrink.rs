//! The shortest sequence that still fails: delta debugging (Zeller and Hildebrandt, 2002), bounded.

/// Takes parts away from a sequence for as long as `fails` says that what is left fails too. `fails` is asked at most
/// `tries` times.
pub fn shrink<T: Copy>(sequence: &[T], mut tries: usize, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut left = sequence.to_vec();
    let mut parts = 2;
    while left.len() > 1 && tries > 0 {
        let size = left.len().div_ceil(parts);
        let mut candidates = (0..left.len()).step_by(size).map(|from| {
            let to = (from + size).min(left.len());
            [&left[..from], &left[to..]].concat()
        });
        let shorter = candidates.find(|candidate| {
            let asked = !candidate.is_empty() && tries > 0;
            tries -= usize::from(asked);
            asked && fails(candidate)
        });
        match shorter {
            Some(shorter) => {
                left = shorter;
                parts = (parts - 1).max(2);
            }
            None if size == 1 => break,
            None => parts = (2 * parts).min(left.len()),
        }
    }
    left
}

#[test]
fn what_fails_by_two_steps_shrinks_to_these_two() {
    let sequence: Vec<u32> = (0..40).collect();
    let mut tried = 0;
    let left = shrink(&sequence, 1000, |candidate| {
        tried += 1;
        candidate.contains(&3) && candidate.contains(&31)
    });
    assert_eq!(left, [3, 31]);
    assert!(tried < 100, "{tried}");
}

#[test]
fn what_fails_by_everything_together_stays_whole_and_is_not_tried_for_ever() {
    let sequence: Vec<u32> = (0..10).collect();
    let mut tried = 0;
    let left = shrink(&sequence, 7, |candidate| {
        tried += 1;
        candidate.len() == 10
    });
    assert_eq!((left, tried), (sequence, 7));
}

#[test]
fn one_step_can_not_be_shorter() {
    assert_eq!(shrink(&[1], 10, |_| panic!("there is nothing to try")), [1]);
}
