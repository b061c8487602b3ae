//! The plane in which directions of many dimensions are drawn. It is computed in integers, so that
//! every node draws the same one; nothing that matters to the competition depends on it.

/// Length of an axis.
const AXIS: i64 = 1 << 15;
/// Length to which vectors are scaled before they are compared.
const LENGTH: i64 = 1 << 15;
/// Steps of the power iteration: enough for a picture, if not for the last digit.
const STEPS: usize = 24;
/// How far from the origin the farthest point of a picture is.
const RADIUS: i64 = 1_000;

/// Two orthogonal axes and the origin of a plane.
#[derive(Debug)]
pub(super) struct Plane {
    origin: Vec<i64>,
    axes: [Vec<i64>; 2],
}

impl Plane {
    /// The plane in which `points` differ most, through their mean. Where they leave an axis open,
    /// as a single one does, `others` choose it.
    pub(super) fn of(points: &[Vec<i16>], others: &[Vec<i16>]) -> Self {
        let dim = points.iter().chain(others).map(Vec::len).max().unwrap_or(0);
        let points: Vec<_> = points.iter().map(|point| scaled(point, dim)).collect();
        let others: Vec<_> = others.iter().map(|point| scaled(point, dim)).collect();
        let origin = mean(&points, dim);
        let mut from_origin: Vec<_> = points.iter().map(|point| less(point, &origin)).collect();
        let mut others = others;
        let mut axes = [(); 2].map(|()| {
            let axis = principal(&from_origin).or_else(|| principal(&others)).unwrap_or_default();
            for point in from_origin.iter_mut().chain(&mut others) {
                remove(point, &axis);
            }
            axis
        });
        for axis in &mut axes {
            axis.resize(dim, 0);
        }
        Self { origin, axes }
    }

    /// Where directions lie in the plane, seen from its origin: the farthest is [`RADIUS`] away.
    pub(super) fn places(&self, points: &[Vec<i16>], from_origin: bool) -> Vec<[i32; 2]> {
        let places = self.seen(points, from_origin);
        let far = farthest(&places);
        places.into_iter().map(|place| small(place, far)).collect()
    }

    /// Where a direction lies among others that are placed without the origin: as far out as the
    /// farthest of them at most. `None` for a vector without a direction.
    pub(super) fn place_among(&self, vector: Vec<i64>, others: &[Vec<i16>]) -> Option<[i32; 2]> {
        let vector = sized(vector, self.origin.len());
        if vector.iter().all(|part| *part == 0) {
            return None;
        }
        let place = self.place(&vector);
        let far = farthest(&self.seen(others, false)).max(farthest(&[place]));
        Some(small(place, far))
    }

    fn seen(&self, points: &[Vec<i16>], from_origin: bool) -> Vec<[i64; 2]> {
        let points = points.iter().map(|point| scaled(point, self.origin.len()));
        let seen = |point: Vec<i64>| if from_origin { less(&point, &self.origin) } else { point };
        points.map(|point| self.place(&seen(point))).collect()
    }

    fn place(&self, vector: &[i64]) -> [i64; 2] {
        [0, 1].map(|at| dot(vector, &self.axes[at]) / AXIS)
    }
}

/// How far from the origin the farthest place is.
fn farthest(places: &[[i64; 2]]) -> i64 {
    places.iter().map(|[x, y]| (x * x + y * y).isqrt()).max().unwrap_or(0).max(1)
}

/// A place in a picture whose farthest place was `far` away.
fn small(place: [i64; 2], far: i64) -> [i32; 2] {
    place.map(|part| i32::try_from(part * RADIUS / far).unwrap_or(0))
}

/// A vector in the direction of `point`, [`LENGTH`] long, or zero.
fn scaled(point: &[i16], dim: usize) -> Vec<i64> {
    sized(point.iter().map(|&part| part.into()).collect(), dim)
}

/// The same of a vector that is at hand.
fn sized(mut vector: Vec<i64>, dim: usize) -> Vec<i64> {
    vector.resize(dim, 0);
    resize(&mut vector, LENGTH);
    vector
}

fn mean(points: &[Vec<i64>], dim: usize) -> Vec<i64> {
    let count = i64::try_from(points.len()).unwrap_or(i64::MAX).max(1);
    (0..dim).map(|at| points.iter().map(|point| point[at]).sum::<i64>() / count).collect()
}

fn less(point: &[i64], origin: &[i64]) -> Vec<i64> {
    point.iter().zip(origin).map(|(part, origin)| part - origin).collect()
}

fn dot(a: &[i64], b: &[i64]) -> i64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Removes from a vector what lies along an axis.
fn remove(point: &mut [i64], axis: &[i64]) {
    let along = dot(point, axis) / AXIS;
    for (part, axis) in point.iter_mut().zip(axis) {
        *part -= along * axis / AXIS;
    }
}

/// The direction in which vectors are longest, by power iteration from the longest of them; `None`
/// if all are as good as zero.
fn principal(points: &[Vec<i64>]) -> Option<Vec<i64>> {
    // Rounding leaves some units in each component of a vector that should be zero.
    let dim = i64::try_from(points.first()?.len()).unwrap_or(i64::MAX);
    let longest = points.iter().max_by_key(|point| dot(point, point))?;
    if dot(longest, longest) <= 64 * dim {
        return None;
    }
    let mut axis = longest.clone();
    resize(&mut axis, AXIS);
    for _ in 0..STEPS {
        let mut sum = vec![0_i64; axis.len()];
        for point in points {
            let along = dot(point, &axis) / AXIS;
            for (sum, part) in sum.iter_mut().zip(point) {
                *sum += along * part;
            }
        }
        if !resize(&mut sum, AXIS) {
            break;
        }
        axis = sum;
    }
    // Of two opposite axes, the one whose largest component is positive.
    let largest = axis.iter().copied().max_by_key(|part| part.abs()).unwrap_or(0);
    if largest < 0 {
        for part in &mut axis {
            *part = -*part;
        }
    }
    Some(axis)
}

/// Scales a vector to a length, unless it is zero.
fn resize(vector: &mut [i64], length: i64) -> bool {
    let squares = vector.iter().map(|&part| u128::from(part.unsigned_abs()).pow(2));
    let Ok(now @ 1..) = i128::try_from(squares.sum::<u128>().isqrt()) else {
        return false;
    };
    for part in vector {
        *part = i64::try_from(i128::from(*part) * i128::from(length) / now).unwrap_or(0);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::Plane;

    #[test]
    fn points_lie_along_the_axes_in_which_they_differ_most() {
        let models = [vec![30_000, 0, 0, 900], vec![-30_000, 0, 0, 900], vec![0, 0, 9_000, 9_000]];
        let plane = Plane::of(&models, &[]);
        let places = plane.places(&models, true);
        assert_eq!(places, plane.places(&models, true));
        let far = places.iter().map(|[x, y]| x * x + y * y).max().unwrap();
        assert!((996_000..=1_000_000).contains(&far), "{places:?}");
        let [first, second, third] = [places[0], places[1], places[2]];
        assert!(first[0] * second[0] < 0 && third[0].abs() < 20, "{places:?}");
        assert!(third[1] * first[1] < 0, "{places:?}");
        let target = plane.places(&[vec![500, 0, 0, 0]], false)[0];
        assert!(target[0] * first[0] > 0 && target[1].abs() < 20, "{target:?}");
        let others = [vec![500, 0, 0, 0], vec![0, 0, 500, 0]];
        let data = plane.place_among(vec![60_000, 0, 0, 0], &others).unwrap();
        assert_eq!(data, plane.places(&others, false)[0], "its length does not matter");
        assert_eq!(plane.place_among(vec![0; 4], &others), None);
    }

    #[test]
    fn one_point_or_none_leaves_the_axes_to_the_others() {
        let targets = [vec![9, 1, 0], vec![-9, 3, 2], vec![1, -9, 2]];
        for models in [Vec::new(), vec![vec![1, 2, 3]]] {
            let places = Plane::of(&models, &targets).places(&targets, false);
            assert!(places.iter().all(|place| *place != [0, 0]), "{places:?}");
        }
        assert!(Plane::of(&[], &[]).places(&[], true).is_empty());
    }
}
