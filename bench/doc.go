// Package bench measures the running gateway. Its benchmarks start the bare
// server, the gateway and the upstream as processes of their own, so that a
// server's CPU time can be told from its clients'.
package bench
