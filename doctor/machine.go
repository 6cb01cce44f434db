package doctor

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/akidb/akigw/internal/size"
)

// Machine describes what a gateway requires of its machine.
type Machine struct {
	Data        string // directory
	DiskBytes   int64  // disk space that caches, the journal and snapshots may use
	MemoryBytes int64  // memory that the process may use
	Files       int    // connections that may be open
	Listen      string // address of the S3 listener
	AdminListen string
	TLSCert     string // files, "" for none
	TLSKey      string
	Journal     string // directory of the journal
	// SecondJournal is the directory of the journal's mirror, "" for none.
	SecondJournal string
	// MinFree is how many bytes the journal leaves free on its disk.
	MinFree int64
	// Acknowledges is true if the journal acknowledges some writes.
	Acknowledges bool
}

// Check checks the machine.
func (m *Machine) Check(r *Report) {
	dir := m.directory(r)
	if dir != "" {
		m.room(r, dir)
	}
	for _, other := range []string{m.Journal, m.SecondJournal} {
		if _, err := os.Stat(other); err == nil && other != "" && !sameDisk(dir, other) {
			m.writable(r, other)
		}
	}
	if _, err := os.Stat(m.Journal); err == nil {
		dir = m.Journal
	}
	if dir != "" {
		m.speed(r, dir)
	}
	m.secondJournal(r)
	m.memory(r)
	m.files(r)
	m.ports(r)
	m.certificate(r)
}

// directory checks the data directory. It returns the directory or, if that does not exist, the one
// in which it would be created; "" if it cannot be used.
func (m *Machine) directory(r *Report) string {
	const check = "directory"
	info, err := os.Stat(m.Data)
	switch {
	case errors.Is(err, os.ErrNotExist):
		parent, err := filepath.Abs(m.Data)
		for err == nil {
			parent = filepath.Dir(parent)
			if _, err := os.Stat(parent); err == nil || parent == "/" {
				break
			}
		}
		if syscall.Access(parent, 2) != nil {
			r.Add(Problem, check, fmt.Sprintf("sudo install -d -m 700 -o %s %s, or another directory with --data", userName(), m.Data), "%s does not exist, and %s cannot be written", m.Data, parent)
			return ""
		}
		r.Add(Note, check, "", "%s does not exist yet; serve creates it", m.Data)
		return parent
	case err != nil:
		r.Add(Problem, check, "give akigw a directory of its own with --data", "%v", err)
		return ""
	case !info.IsDir():
		r.Add(Problem, check, "give akigw a directory with --data", "%s is not a directory", m.Data)
		return ""
	case info.Mode()&(os.ModeSticky|0o002) != 0:
		r.Add(Problem, check, fmt.Sprintf("chmod 700 %s if only akigw uses it, or another directory with --data", m.Data), "%s can be written by others", m.Data)
		return ""
	case syscall.Access(m.Data, 2) != nil:
		r.Add(Problem, check, fmt.Sprintf("sudo chown -R %s %s", userName(), m.Data), "%s cannot be written by this user", m.Data)
		return ""
	}
	var open []string
	_ = filepath.WalkDir(m.Data, func(path string, d fs.DirEntry, err error) error {
		if info, infoErr := d.Info(); err == nil && infoErr == nil && info.Mode().Perm()&0o077 != 0 && !d.IsDir() {
			open = append(open, path)
		}
		if err != nil && d != nil && d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	if len(open) > 0 {
		r.Add(Warning, check, fmt.Sprintf("chmod -R go= %s", m.Data), "%s and %d more files can be read by others", open[0], len(open)-1)
		return m.Data
	}
	r.ok(check, "%s is private", m.Data)
	return m.Data
}

// userName is the name of this user, or its number.
func userName() string {
	if name := os.Getenv("USER"); name != "" {
		return name
	}
	return strconv.Itoa(os.Getuid())
}

// remoteFS is the name of a file system that is not on a local disk, by its magic number; "" for others.
func remoteFS(magic int64) string {
	switch magic {
	case 0x6969:
		return "NFS"
	case 0xff534d42:
		return "CIFS"
	case 0xfe534d42:
		return "SMB"
	case 0x65735546:
		return "FUSE"
	case 0x00c36400:
		return "Ceph"
	default:
		return ""
	}
}

// memoryFS is the magic number of tmpfs, which loses everything at a restart of the machine.
const memoryFS = 0x01021994

// room checks the free space and the type of the disk.
func (m *Machine) room(r *Report, dir string) {
	const check = "disk space"
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		r.Add(Warning, check, "", "%s: %v", dir, err)
		return
	}
	if name := remoteFS(int64(st.Type)); name != "" {
		r.Add(Warning, check, "a local disk, with --data", "%s is on %s: it is slow, and memory maps and syncs may not work as the cache and the journal require", dir, name)
	}
	if int64(st.Type) == memoryFS && m.Acknowledges {
		r.Add(Problem, check, "a disk, with --data", "%s is in memory, and its journal acknowledges writes: a restart of the machine loses them", dir)
	}
	if !m.takes(r, dir, &st) {
		return
	}
	free, total := int64(st.Bavail)*int64(st.Bsize), int64(st.Blocks)*int64(st.Bsize)
	used := size.OnDisk(m.Data)
	switch {
	case free+used < 1<<30:
		r.Add(Problem, check, "free space, or another disk with --data", "%s are free on the disk of %s: nothing is cached there, and no write is journalled", size.Human(free), dir)
	case m.DiskBytes > free+used:
		r.Add(Warning, check, fmt.Sprintf("cache.warm_bytes, write_back.max_pending_bytes and snapshot.max_bytes must fit together, with a tenth to spare; or a larger disk with --data (this one has %s)", size.Human(total)), "the limits add up to %s, and %s are free or in use by akigw", size.Human(m.DiskBytes), size.Human(free+used))
	default:
		r.ok(check, "the limits add up to %s, and %s are free or in use by akigw", size.Human(m.DiskBytes), size.Human(free+used))
	}
}

// fewFiles is the number of inodes that have to be free.
const fewFiles = 1000

// readOnly is ST_RDONLY of statfs(2).
const readOnly = 1

// takes reports whether a file can be created in a directory.
func (m *Machine) takes(r *Report, dir string, st *syscall.Statfs_t) bool {
	const check = "disk space"
	switch {
	case st.Flags&readOnly != 0:
		r.Add(Problem, check, "find the reason (dmesg), mount -o remount,rw, and restart the gateway", "the disk of %s is mounted read-only: pending writes are kept and can be read, but nothing is cached", dir)
	case st.Files > 0 && st.Ffree < fewFiles:
		r.Add(Problem, check, "delete files (df -i), or another disk", "the disk of %s has inodes for %d more files: nothing is cached there, and no write is journalled", dir, st.Ffree)
	default:
		return true
	}
	return false
}

// writable checks a disk of the journal that is not the disk of the data directory.
func (m *Machine) writable(r *Report, dir string) {
	const check = "disk space"
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		r.Add(Problem, check, "", "%s: %v", dir, err)
		return
	}
	if !m.takes(r, dir, &st) {
		return
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < m.MinFree {
		r.Add(Problem, check, "free space there, or lower write_back.min_free_bytes", "%s are free on the disk of %s: no write is journalled", size.Human(free), dir)
		return
	}
	r.ok(check, "the journal's disk, %s, takes writes", dir)
}

const (
	// syncs is the number of durable writes of 4 KiB that are timed, and slowSync the median above which
	// the disk counts as slow.
	syncs    = 30
	slowSync = 10 * time.Millisecond
)

// speed times durable writes: each write that the journal acknowledges waits for one.
func (m *Machine) speed(r *Report, dir string) {
	const check = "disk speed"
	f, err := os.CreateTemp(dir, ".akigw-doctor-*")
	if err != nil {
		r.Add(Problem, check, "", "no file can be created: %v", err)
		return
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var took []time.Duration
	for range syncs {
		begun := time.Now()
		_, err := f.Write(make([]byte, 4<<10))
		if err = errors.Join(err, f.Sync()); err != nil {
			r.Add(Problem, check, "look at the disk (dmesg, smartctl)", "a durable write failed: %v", err)
			return
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	half, most := took[syncs/2], took[syncs-1]
	switch {
	case half > slowSync && m.Acknowledges:
		r.Add(Warning, check, "an SSD for --data, or write_back.dir on one", "half of all durable writes of 4 KiB take more than %v: each write waits at least that long", half.Round(100*time.Microsecond))
	default:
		r.ok(check, "durable writes of 4 KiB take %v (median), at most %v", half.Round(10*time.Microsecond), most.Round(10*time.Microsecond))
	}
}

// memory checks that the memory budgets of the process fit into the machine's memory.
func (m *Machine) memory(r *Report) {
	const check = "memory"
	limit, what := physical(), "this machine has"
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if raw, err := os.ReadFile(path); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64); err == nil && n > 0 && (limit == 0 || n < limit) {
				limit, what = n, "this control group (container) may use"
			}
		}
	}
	switch {
	case limit == 0:
	case m.MemoryBytes > limit:
		r.Add(Problem, check, fmt.Sprintf("cache.hot_bytes = %q or less", sizeOf(max(0, limit/2))), "the gateway may use %s, and %s %s: it would be killed", size.Human(m.MemoryBytes), what, size.Human(limit))
	case m.MemoryBytes > limit/10*9:
		r.Add(Warning, check, "less for cache.hot_bytes, or more memory", "the gateway may use %s, and %s %s: the page cache needs some as well", size.Human(m.MemoryBytes), what, size.Human(limit))
	default:
		r.ok(check, "the gateway may use %s, and %s %s", size.Human(m.MemoryBytes), what, size.Human(limit))
	}
}

// sizeOf formats a size as in the configuration.
func sizeOf(n int64) string { return fmt.Sprintf("%dMiB", n>>20) }

// physical is the machine's memory in bytes, 0 if it is unknown.
func physical() int64 {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "MemTotal:" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			if err == nil {
				return n << 10
			}
		}
	}
	return 0
}

// files checks how many files the process may open.
func (m *Machine) files(r *Report) {
	const check = "open files"
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return
	}
	need := uint64(max(m.Files, 1000)) + 500 // files of the cache and the journal, and connections to the upstream
	if limit.Max < need {                    // Go raises the soft limit by itself
		r.Add(Warning, check, fmt.Sprintf("ulimit -n %d, LimitNOFILE=%d in the systemd unit, or fewer max_connections", need, need), "this user may open %d files, and max_connections allows %d connections besides the cache's files", limit.Max, m.Files)
		return
	}
	r.ok(check, "this user may open %d", limit.Max)
}

// ports checks that the listeners can be opened, or that a gateway has opened them.
func (m *Machine) ports(r *Report) {
	running := false
	client := &http.Client{Timeout: 2 * time.Second}
	if resp, err := client.Get("http://" + m.AdminListen + "/healthz"); err == nil {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // a truncated body is still useful
		resp.Body.Close()
		running = resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusServiceUnavailable
		if running {
			m.health(r, resp.StatusCode, string(body))
		}
	}
	for _, l := range []struct{ check, flag, address string }{{"S3 port", "--listen", m.Listen}, {"admin port", "--admin-listen", m.AdminListen}} {
		listener, err := net.Listen("tcp", l.address)
		switch {
		case err == nil:
			listener.Close()
			r.ok(l.check, "%s is free", l.address)
		case errors.Is(err, syscall.EADDRINUSE) && running:
			r.ok(l.check, "%s is in use, and a gateway responds on %s", l.address, m.AdminListen)
		case errors.Is(err, syscall.EADDRINUSE):
			r.Add(Problem, l.check, fmt.Sprintf("stop what uses it (ss -ltnp 'sport = :%s'), or another address with %s", port(l.address), l.flag), "%s is in use by another program", l.address)
		case errors.Is(err, syscall.EACCES):
			r.Add(Problem, l.check, fmt.Sprintf("a port above 1023 with %s, or AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit", l.flag), "%s may not be opened by this user", l.address)
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			r.Add(Problem, l.check, fmt.Sprintf("an address of this machine (ip addr), or 0.0.0.0:%s, with %s", port(l.address), l.flag), "%s is not an address of this machine", l.address)
		default:
			r.Add(Problem, l.check, "another address with "+l.flag, "%v", err)
		}
	}
}

// health reports what a running gateway says about its own health.
func (m *Machine) health(r *Report, status int, body string) {
	const check = "health"
	level := Warning
	if status != http.StatusOK {
		level = Problem
	}
	said := false
	for line := range strings.Lines(body) {
		if line = strings.TrimSpace(line); line != "" && line != "ok" {
			r.Add(level, check, "docs/troubleshooting.md, The disk; akigw status", "the running gateway reports: %s", line)
			said = true
		}
	}
	if !said && status == http.StatusOK {
		r.ok(check, "the running gateway is healthy")
	}
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// soon is how long before it expires a certificate gets a warning.
const soon = 14 * 24 * time.Hour

// certificate checks the S3 listener's certificate.
func (m *Machine) certificate(r *Report) {
	const check = "TLS"
	if m.TLSCert == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(m.TLSCert, m.TLSKey)
	if err != nil {
		r.Add(Problem, check, "tls_cert must be the chain, the server's certificate first, and tls_key its key, both as PEM", "%v", err)
		return
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	switch {
	case err != nil:
		r.Add(Problem, check, "another certificate in tls_cert", "%v", err)
	case time.Now().After(leaf.NotAfter):
		r.Add(Problem, check, "renew it; a running gateway loads the new files by itself", "the certificate expired on %s", leaf.NotAfter.Format(time.DateOnly))
	case time.Until(leaf.NotAfter) < soon:
		r.Add(Warning, check, "renew it; a running gateway loads the new files by itself", "the certificate expires on %s", leaf.NotAfter.Format(time.DateOnly))
	default:
		r.ok(check, "the certificate is for %s, until %s", strings.Join(leaf.DNSNames, ", "), leaf.NotAfter.Format(time.DateOnly))
	}
}

// sameDisk reports whether two directories exist and are on one disk.
func sameDisk(a, b string) bool {
	first, err := os.Stat(a)
	second, secondErr := os.Stat(b)
	if err != nil || secondErr != nil {
		return false
	}
	x, ok := first.Sys().(*syscall.Stat_t)
	y, also := second.Sys().(*syscall.Stat_t)
	return ok && also && x.Dev == y.Dev
}
