//! What is wrong with a request, by Diego's names of fields and in its texts. Collects, and decides
//! nothing: what the domain refuses is the domain's business.

use super::{error::Failure, proto};

/// The faults of one request, in the order in which Diego finds them.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<String>);

impl Faults {
    /// A field is not what it must be.
    pub(super) fn field(&mut self, name: &str) {
        self.0.push(format!("Invalid field: {name}"));
    }

    /// A fault of its own wording.
    pub(super) fn text(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }

    /// A text must not be empty.
    pub(super) fn not_empty(&mut self, name: &str, text: &str) {
        if text.is_empty() {
            self.field(name);
        }
    }

    /// What is wrong within a field comes behind the field's own name.
    pub(super) fn within<T>(&mut self, name: &str, look: impl FnOnce(&mut Self) -> T) -> T {
        let mut inner = Self::default();
        let found = look(&mut inner);
        if !inner.0.is_empty() {
            self.field(name);
            self.0.append(&mut inner.0);
        }
        found
    }

    /// A number must not be negative.
    pub(super) fn not_negative(&mut self, name: &str, number: i32) {
        if number < 0 {
            self.field(name);
        }
    }

    /// A guid must be letters, digits, `-` and `_`.
    pub(super) fn guid(&mut self, name: &str, text: &str) {
        let is_in_guid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if text.is_empty() || !text.bytes().all(is_in_guid) {
            self.field(name);
        }
    }

    /// Something must be there; what is wrong within it is for `check` to say.
    pub(super) fn present<'m, M>(
        &mut self,
        name: &str,
        message: Option<&'m M>,
        check: impl FnOnce(&mut Self, &'m M),
    ) {
        match message {
            Some(message) => check(self, message),
            None => self.field(name),
        }
    }

    /// A slot by all that Diego names it with.
    pub(super) fn key(&mut self, key: Option<&proto::ActualLrpKey>) {
        self.present("actual_lrp_key", key, |faults, key| {
            faults.not_empty("process_guid", &key.process_guid);
            faults.not_negative("index", key.index);
            faults.not_empty("domain", &key.domain);
        });
    }

    /// An instance.
    pub(super) fn instance_key(&mut self, key: Option<&proto::ActualLrpInstanceKey>) {
        self.present("actual_lrp_instance_key", key, |faults, key| {
            faults.not_empty("instance_guid", &key.instance_guid);
            faults.not_empty("cell_id", &key.cell_id);
        });
    }

    /// How an instance is reached.
    pub(super) fn net_info(&mut self, net_info: Option<&proto::ActualLrpNetInfo>) {
        self.present("actual_lrp_net_info", net_info, |faults, net_info| {
            faults.not_empty("address", &net_info.address);
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nothing, when nothing was wrong.
    pub(super) fn check(self) -> Result<(), Failure> {
        if self.0.is_empty() { Ok(()) } else { Err(Failure::invalid(self.0.join(", "))) }
    }
}
