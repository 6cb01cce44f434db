// Package bench measures S3 endpoints: open-loop load, closed-loop reads and writes, uploads, and
// what the server's process takes meanwhile. It speaks S3 to any of them, and checks what it is
// given. Its reports are text, JSON, and one HTML file with plots.
//
// The benchmarks beside it start servers as processes of their own, so that a server's CPU time
// can be told from its clients'.
package bench
