package flare

// This file is layer 0 (base): which flare this is.

// Version is that of the package. CHANGELOG.md says what is in it; with "-dev" behind it,
// that is what stands under Unreleased.
const Version = "0.1.0-dev"
