//! Storage for requests with ids that go stale: a reused place gets a new generation, so an id kept too long finds
//! nothing instead of somebody else's request.

/// Identifies a request within one scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    index: u32,
    generation: u32,
}

impl RequestId {
    /// The request's place: small, dense, and reused after the request has ended.
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// Requests by id.
#[derive(Clone, Debug)]
pub(super) struct RequestTable<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> RequestTable<T> {
    pub(super) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    pub(super) fn insert(&mut self, value: T) -> RequestId {
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            place.value = Some(value);
            return RequestId { index, generation: place.generation };
        }
        let index = u32::try_from(self.places.len()).expect("fewer than 2^32 requests fit in memory");
        self.places.push(Place { generation: 0, value: Some(value) });
        RequestId { index, generation: 0 }
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&T> {
        self.places.get(id.index()).filter(|p| p.generation == id.generation)?.value.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: RequestId) -> Option<&mut T> {
        self.places.get_mut(id.index()).filter(|p| p.generation == id.generation)?.value.as_mut()
    }

    pub(super) fn remove(&mut self, id: RequestId) -> Option<T> {
        let place = self.places.get_mut(id.index()).filter(|p| p.generation == id.generation)?;
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.index);
        Some(value)
    }
}
