// Package bench measures S3 endpoints: open-loop load, closed-loop reads and writes, uploads, and the
// resource usage of the server's process meanwhile. It works with any S3 service and verifies the
// content of responses. Reports are text, JSON, or one HTML file with plots.
//
// Its Go benchmarks start servers as separate processes, so that the CPU time of a server can be
// distinguished from that of its clients.
package bench
