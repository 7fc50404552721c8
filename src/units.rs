//! Quantities that a bare number would hide.
