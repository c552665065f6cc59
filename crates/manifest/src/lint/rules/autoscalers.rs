//! Two owners of one number.

use crate::lint::{
    finding::{Edit, Fix, Sink},
    world::{Kind, World},
};

/// FW020.
pub(in crate::lint) fn two_on_one_target(world: &World<'_>, sink: &mut Sink) {
    for manifest in &world.manifests {
        let (Some(target), Some(loc)) = (manifest.target(), manifest.target_loc()) else { continue };
        let Some(other) =
            world.autoscalers_of(&target).next().filter(|first| !std::ptr::eq(*first, manifest))
        else {
            continue;
        };
        let makes_hpa = [manifest.kind, other.kind].contains(&Kind::ScaledObject);
        let message = format!(
            "`{}` and `{}` ({}) both scale {} {}/{}: each undoes what the other did{}",
            manifest.name(),
            other.name(),
            other.source.name,
            target.kind,
            target.namespace,
            target.name,
            if makes_hpa { " (KEDA makes an HPA of its own for a ScaledObject)" } else { "" }
        );
        sink.at(manifest, &loc, message, Fix::words("keep one of them"));
    }
}

/// FW045.
pub(in crate::lint) fn replicas_written_by_hand(world: &World<'_>, sink: &mut Sink) {
    for manifest in world.of_kind(Kind::Workload) {
        let Some(spec) = manifest.spec() else { continue };
        let Some(entry) = spec.entry("replicas") else { continue };
        let Some(autoscaler) = world.autoscalers_of(&manifest.identity()).next() else { continue };
        let message = format!(
            "`{}` scales this, and every apply of this file sets it back to {}",
            autoscaler.name(),
            entry.value.describe()
        );
        let edits = Edit::remove_entry(&manifest.source.text, entry).into_iter().collect();
        sink.entry(manifest, (&spec, entry), message, Fix::edit("leave `replicas` out", edits));
    }
}
