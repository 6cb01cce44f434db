// Package e2e drives the real binary with real S3 clients, in front of real S3
// servers that somebody else wrote. It is a module of its own, so that their
// dependencies stay out of the product's.
//
// A test whose client is not installed skips and says so. Long runs (TestLong*)
// need AKIGW_LONG=1; "make long TEST=NAME" sets it.
package e2e
