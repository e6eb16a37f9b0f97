//! Who drives what.

/// Where all photos are, according to the addresses that labs look for. The page shows pictures of
/// its own for them.
pub(crate) const PHOTOS: &str = "https://rac-istio-course-images.s3.amazonaws.com/";
/// The photo of everybody, in the version that has no photos yet.
pub(crate) const PLACEHOLDER: &str = "placeholder.png";

/// A driver.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) vehicle: &'static str,
    pub(crate) name: &'static str,
    /// The file of the photo.
    pub(crate) photo: &'static str,
}

/// All of them.
pub(crate) static DRIVERS: [Driver; 5] = [
    Driver {
        vehicle: "City Truck",
        name: "Pam Parry",
        photo: "1.jpg",
    },
    Driver {
        vehicle: "Huddersfield Truck A",
        name: "Duke T. Dog",
        photo: "2.jpg",
    },
    Driver {
        vehicle: "Huddersfield Truck B",
        name: "Denzil Tulser",
        photo: "3.jpg",
    },
    Driver {
        vehicle: "London Riverside",
        name: "Herman Boyce",
        photo: "4.jpg",
    },
    Driver {
        vehicle: "Village Truck",
        name: "June Snell",
        photo: "5.jpg",
    },
];

/// The driver of a vehicle.
pub(crate) fn of(vehicle: &str) -> Option<&'static Driver> {
    DRIVERS.iter().find(|driver| driver.vehicle == vehicle)
}
