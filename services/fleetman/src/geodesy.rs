//! Distances on the Earth.

/// The equatorial radius of WGS 84, in metres.
const A: f64 = 6_378_137.0;
/// Its flattening.
const F: f64 = 1.0 / 298.257_223_563;
/// Its polar radius, in metres.
const B: f64 = A * (1.0 - F);
/// After so many rounds without an answer the points are nearly opposite on the globe.
const MAX_ROUNDS: u32 = 100;

/// A place: degrees north, degrees east.
pub(crate) type Place = (f64, f64);

/// The distance of two places along the WGS 84 ellipsoid, in metres (Vincenty's inverse formula, to
/// the millimetre). For the few places that are nearly opposite on the globe, where that formula
/// finds no answer, half the Earth's girth.
pub(crate) fn distance(from: Place, to: Place) -> f64 {
    let reduced = |latitude: f64| ((1.0 - F) * latitude.to_radians().tan()).atan();
    let (sin_u1, cos_u1) = reduced(from.0).sin_cos();
    let (sin_u2, cos_u2) = reduced(to.0).sin_cos();
    let difference = (to.1 - from.1).to_radians();
    let mut lambda = difference;
    for _ in 0..MAX_ROUNDS {
        let (sin_lambda, cos_lambda) = lambda.sin_cos();
        let sin_sigma = (cos_u2 * sin_lambda).hypot(cos_u1 * sin_u2 - sin_u1 * cos_u2 * cos_lambda);
        if sin_sigma == 0.0 {
            return 0.0;
        }
        let cos_sigma = sin_u1 * sin_u2 + cos_u1 * cos_u2 * cos_lambda;
        let sigma = sin_sigma.atan2(cos_sigma);
        let sin_alpha = cos_u1 * cos_u2 * sin_lambda / sin_sigma;
        let cos2_alpha = 1.0 - sin_alpha * sin_alpha;
        // Along the equator the middle has no latitude.
        let cos_2m = if cos2_alpha == 0.0 {
            0.0
        } else {
            cos_sigma - 2.0 * sin_u1 * sin_u2 / cos2_alpha
        };
        let c = F / 16.0 * cos2_alpha * (4.0 + F * (4.0 - 3.0 * cos2_alpha));
        let along = cos_2m + c * cos_sigma * (2.0 * cos_2m * cos_2m - 1.0);
        let next = difference + (1.0 - c) * F * sin_alpha * (sigma + c * sin_sigma * along);
        if (next - lambda).abs() < 1e-12 {
            let u2 = cos2_alpha * (A * A - B * B) / (B * B);
            let big_a = 1.0 + u2 / 16_384.0 * (4096.0 + u2 * (-768.0 + u2 * (320.0 - 175.0 * u2)));
            let big_b = u2 / 1024.0 * (256.0 + u2 * (-128.0 + u2 * (74.0 - 47.0 * u2)));
            let term = cos_sigma * (2.0 * cos_2m * cos_2m - 1.0)
                - big_b / 6.0
                    * cos_2m
                    * (4.0 * sin_sigma * sin_sigma - 3.0)
                    * (4.0 * cos_2m * cos_2m - 3.0);
            let delta = big_b * sin_sigma * (cos_2m + big_b / 4.0 * term);
            return B * big_a * (sigma - delta);
        }
        lambda = next;
    }
    std::f64::consts::PI * A
}

#[cfg(test)]
mod tests {
    use super::*;

    fn degrees(degrees: f64, minutes: f64, seconds: f64) -> f64 {
        degrees + minutes / 60.0 + seconds / 3600.0
    }

    #[test]
    fn a_published_distance() {
        // Flinders Peak to Buninyong: 54 972.271 m (Geoscience Australia; GRS 80, which differs
        // from WGS 84 by less than a tenth of a millimetre).
        let flinders = (
            -degrees(37.0, 57.0, 3.72030),
            degrees(144.0, 25.0, 29.52440),
        );
        let buninyong = (
            -degrees(37.0, 39.0, 10.15610),
            degrees(143.0, 55.0, 35.38390),
        );
        assert!((distance(flinders, buninyong) - 54_972.271).abs() < 0.001);
    }

    #[test]
    fn odd_places() {
        assert_eq!(distance((53.0, -1.0), (53.0, -1.0)), 0.0);
        let degree_of_equator = A.to_radians();
        assert!((distance((0.0, 10.0), (0.0, 11.0)) - degree_of_equator).abs() < 0.001);
        for (from, to) in [
            ((0.0, 0.0), (0.5, 179.7)),
            ((90.0, 0.0), (-90.0, 0.0)),
            ((1.0, 1.0), (-1.0, -179.0)),
        ] {
            let metres = distance(from, to);
            assert!((19_900_000.0..20_100_000.0).contains(&metres), "{metres}");
        }
    }
}
