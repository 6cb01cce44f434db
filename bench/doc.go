// Package bench measures S3 endpoints: open-loop load, closed-loop reads and writes, uploads, and
// the resources of the server's process meanwhile. It works with any S3 service, and verifies what
// it reads. Its reports are text, JSON, and one HTML file with plots.
//
// Its benchmarks start servers as separate processes, so that the CPU time of a server can be told
// from that of its clients.
package bench
