// Package listen handles the addresses and certificates of the listeners.
package listen

import "net"

// Loopback reports whether a listen address, HOST:PORT, can be reached from
// this machine only.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
