//! The span that work is submitted in, and is run in; nothing without the `tracing` feature.

#![forbid(unsafe_code)]

/// What was current where the work was submitted.
#[cfg(feature = "tracing")]
#[derive(Clone)]
pub(super) struct Span(tracing::Span);

/// Without the feature: no bytes, no code.
#[cfg(not(feature = "tracing"))]
#[derive(Clone)]
pub(super) struct Span;

#[cfg(feature = "tracing")]
impl Span {
    pub(super) fn current() -> Self {
        Self(tracing::Span::current())
    }

    pub(super) fn none() -> Self {
        Self(tracing::Span::none())
    }

    pub(super) fn inside<R>(&self, code: impl FnOnce() -> R) -> R {
        self.0.in_scope(code)
    }
}

#[cfg(not(feature = "tracing"))]
impl Span {
    pub(super) fn current() -> Self {
        Self
    }

    pub(super) fn none() -> Self {
        Self
    }

    #[inline(always)]
    pub(super) fn inside<R>(&self, code: impl FnOnce() -> R) -> R {
        code()
    }
}
