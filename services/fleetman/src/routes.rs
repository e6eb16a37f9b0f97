//! The routes that the trucks drive: our own way-points in and around Sheffield, Huddersfield,
//! London and the Peak District, joined by smooth curves.
//!
//! A track is as long as a recording would be, but no point of it is kept: each is worked out from
//! the way-points when the truck comes to it. The web page draws the same curves as roads.

use crate::decimal::Decimal;
use crate::geodesy::{Place, distance};

/// A truck and where it drives.
#[derive(Debug)]
pub struct Route {
    /// The truck's name.
    pub vehicle: &'static str,
    /// Whether the route ends where it began; else the truck turns and comes back the same way.
    pub closed: bool,
    /// The distance from one point of the track to the next, in metres; the truck's pace.
    pub spacing: f64,
    /// How positions are written.
    precision: Precision,
    /// Degrees north and east.
    pub way_points: &'static [(f64, f64)],
}

/// How many digits the recording of a truck has. They differ, so that nobody who reads them through
/// floating point goes unnoticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Precision {
    /// Seven, the last one zero.
    Seven,
    /// All of a binary fraction: up to 29.
    Binary,
}

impl Precision {
    fn text(self, degrees: f64) -> String {
        match self {
            Self::Seven => format!("{degrees:.6}0"),
            Self::Binary => {
                let unit = f64::from(1_u32 << 29);
                let text = format!("{:.29}", (degrees * unit).round() / unit);
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            }
        }
    }
}

/// The fleet, in order of names.
pub static ROUTES: [Route; 5] = [
    Route {
        vehicle: "City Truck",
        closed: true,
        spacing: 4.0,
        precision: Precision::Binary,
        way_points: &[
            (53.3780, -1.4622),
            (53.3815, -1.4695),
            (53.3799, -1.4790),
            (53.3756, -1.4889),
            (53.3698, -1.4980),
            (53.3652, -1.5070),
            (53.3603, -1.5150),
            (53.3540, -1.5250),
            (53.3495, -1.5410),
            (53.3440, -1.5590),
            (53.3370, -1.5610),
            (53.3305, -1.5490),
            (53.3285, -1.5360),
            (53.3315, -1.5220),
            (53.3390, -1.5135),
            (53.3470, -1.5040),
            (53.3540, -1.4930),
            (53.3610, -1.4840),
            (53.3670, -1.4760),
            (53.3730, -1.4680),
        ],
    },
    Route {
        vehicle: "Huddersfield Truck A",
        closed: false,
        spacing: 10.0,
        precision: Precision::Seven,
        way_points: HUDDERSFIELD_TO_MELTHAM,
    },
    Route {
        vehicle: "Huddersfield Truck B",
        closed: false,
        spacing: 4.0,
        precision: Precision::Seven,
        way_points: HUDDERSFIELD_TO_MELTHAM,
    },
    Route {
        vehicle: "London Riverside",
        closed: false,
        spacing: 6.0,
        precision: Precision::Seven,
        way_points: &[
            (51.5013, -0.1240),
            (51.5048, -0.1231),
            (51.5080, -0.1209),
            (51.5100, -0.1170),
            (51.5111, -0.1115),
            (51.5113, -0.1052),
            (51.5109, -0.0995),
            (51.5106, -0.0940),
            (51.5096, -0.0885),
            (51.5092, -0.0833),
            (51.5098, -0.0780),
            (51.5088, -0.0728),
        ],
    },
    Route {
        vehicle: "Village Truck",
        closed: true,
        spacing: 8.0,
        precision: Precision::Seven,
        way_points: &[
            (53.2133, -1.6757),
            (53.2250, -1.7060),
            (53.2410, -1.7240),
            (53.2720, -1.7470),
            (53.2790, -1.7730),
            (53.3090, -1.7990),
            (53.3390, -1.7880),
            (53.3430, -1.7720),
            (53.3480, -1.7430),
            (53.3470, -1.6890),
            (53.3290, -1.6550),
            (53.2980, -1.6330),
            (53.2700, -1.6410),
            (53.2480, -1.6230),
            (53.2280, -1.6110),
            (53.1900, -1.6150),
            (53.1985, -1.6480),
        ],
    },
];

const HUDDERSFIELD_TO_MELTHAM: &[(f64, f64)] = &[
    (53.6450, -1.7830),
    (53.6400, -1.7872),
    (53.6345, -1.7925),
    (53.6290, -1.7985),
    (53.6245, -1.8065),
    (53.6180, -1.8080),
    (53.6130, -1.8155),
    (53.6095, -1.8250),
    (53.6030, -1.8290),
    (53.5985, -1.8385),
    (53.5925, -1.8480),
];

/// The points of a route, from the first to the last and from there on.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    route: &'static Route,
    /// How many points the curve after each way-point has.
    counts: Vec<usize>,
    /// Points in one direction.
    one_way: usize,
}

impl Track {
    pub(crate) fn new(route: &'static Route) -> Self {
        let counts: Vec<usize> = (0..route.curves())
            .map(|curve| ((route.curve_length(curve) / route.spacing).round() as usize).max(1))
            .collect();
        Self {
            route,
            one_way: counts.iter().sum(),
            counts,
        }
    }

    pub(crate) fn vehicle(&self) -> &'static str {
        self.route.vehicle
    }

    /// The number of points of a whole journey.
    pub(crate) fn len(&self) -> usize {
        if self.route.closed {
            self.one_way
        } else {
            2 * self.one_way
        }
    }

    /// A point of the journey; beyond its end, the last one.
    fn place(&self, index: usize) -> Place {
        let mut index = index.min(self.len());
        if index > self.one_way {
            index = self.len() - index;
        }
        for (curve, &count) in self.counts.iter().enumerate() {
            if index < count {
                return self.route.curve(curve, index as f64 / count as f64);
            }
            index -= count;
        }
        self.route.curve(self.counts.len() - 1, 1.0)
    }

    /// The same as it is written: latitude and longitude.
    pub(crate) fn position(&self, index: usize) -> (Decimal, Decimal) {
        let (latitude, longitude) = self.place(index);
        let written = |degrees| {
            self.route
                .precision
                .text(degrees)
                .parse()
                .expect("a float of few digits is a decimal")
        };
        (written(latitude), written(longitude))
    }
}

impl Route {
    /// The number of curves between way-points.
    fn curves(&self) -> usize {
        self.way_points.len() - usize::from(!self.closed)
    }

    /// The place at `t` (0 to 1) of the curve after a way-point: a Catmull-Rom spline, which passes
    /// through every way-point.
    fn curve(&self, curve: usize, t: f64) -> Place {
        let count = self.way_points.len();
        // Before the start and beyond the end of an open route, the road goes straight on.
        let beyond = |end: Place, inner: Place| (2.0 * end.0 - inner.0, 2.0 * end.1 - inner.1);
        let point = |offset: usize| {
            // `offset` counts from the way-point before this one.
            let index = curve + offset;
            let points = self.way_points;
            match index {
                _ if self.closed => points[(index + count - 1) % count],
                0 => beyond(points[0], points[1]),
                _ if index > count => beyond(points[count - 1], points[count - 2]),
                _ => points[index - 1],
            }
        };
        let [before, from, to, after] = [point(0), point(1), point(2), point(3)];
        let blend = |a: f64, b: f64, c: f64, d: f64| {
            0.5 * (2.0 * b
                + (c - a) * t
                + (2.0 * a - 5.0 * b + 4.0 * c - d) * t * t
                + (3.0 * b - a - 3.0 * c + d) * t * t * t)
        };
        (
            blend(before.0, from.0, to.0, after.0),
            blend(before.1, from.1, to.1, after.1),
        )
    }

    /// In metres, closely enough.
    fn curve_length(&self, curve: usize) -> f64 {
        const PIECES: u32 = 16;
        let at = |piece: u32| self.curve(curve, f64::from(piece) / f64::from(PIECES));
        (0..PIECES)
            .map(|piece| distance(at(piece), at(piece + 1)))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kilometres(track: &Track) -> f64 {
        (0..track.len())
            .map(|index| distance(track.place(index), track.place(index + 1)))
            .sum::<f64>()
            / 1000.0
    }

    #[test]
    fn journeys_are_as_long_as_in_the_well_known_sample() {
        for (route, length, points) in [
            (&ROUTES[0], 15.0..25.0, 4000..6500),
            (&ROUTES[1], 14.0..22.0, 1200..2200),
            (&ROUTES[2], 14.0..22.0, 3500..5500),
            (&ROUTES[3], 7.0..11.0, 1200..1900),
            (&ROUTES[4], 45.0..60.0, 5600..7500),
        ] {
            let track = Track::new(route);
            let name = route.vehicle;
            assert!(
                length.contains(&kilometres(&track)),
                "{name}: {} km",
                kilometres(&track)
            );
            assert!(
                points.contains(&track.len()),
                "{name}: {} points",
                track.len()
            );
        }
    }

    #[test]
    fn neighbouring_points_are_about_one_spacing_apart_and_the_end_meets_the_start() {
        for route in &ROUTES {
            let track = Track::new(route);
            for index in 0..track.len() {
                let step = distance(track.place(index), track.place(index + 1));
                let most = 2.0 * route.spacing;
                assert!(step < most, "{} at {index}: {step} m", route.vehicle);
            }
            let gap = distance(track.place(track.len()), track.place(0));
            assert!(gap < 0.01, "{}: {gap} m", route.vehicle);
        }
    }

    #[test]
    fn positions_are_written_in_their_own_way() {
        let (latitude, longitude) = Track::new(&ROUTES[3]).position(0);
        assert_eq!(
            (latitude.as_str(), longitude.as_str()),
            ("51.5013000", "-0.1240000")
        );
        let track = Track::new(&ROUTES[0]);
        let longest = (0..200)
            .map(|index| track.position(index).0.as_str().len() - "53.".len())
            .max()
            .expect("points");
        assert!((25..=29).contains(&longest), "{longest} places");
        assert_eq!(Precision::Binary.text(53.5), "53.5");
        assert_eq!(Precision::Binary.text(53.0), "53");
    }
}
