package doctor

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// healthy is a machine without problems.
func healthy(t *testing.T) *Machine {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	return &Machine{Data: data, DiskBytes: 1 << 20, MemoryBytes: 1 << 20, Files: 10, Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", Journal: filepath.Join(data, "journal")}
}

// TestMachine: on a machine without problems every check passes. Nothing is left in the data
// directory.
func TestMachine(t *testing.T) {
	m := healthy(t)
	m.TLSCert, m.TLSKey = filepath.Join(t.TempDir(), "cert"), filepath.Join(t.TempDir(), "key")
	testkit.CertifyUntil(t, m.TLSCert, m.TLSKey, "s3.example.com", time.Now().Add(365*24*time.Hour), "s3.example.com")
	var r Report
	m.Check(&r)
	seen := map[string]bool{}
	for _, f := range r.Findings {
		if seen[f.Check] = true; f.Level != OK || f.Remedy != "" {
			t.Errorf("%+v", f)
		}
	}
	for _, check := range []string{"directory", "disk space", "disk speed", "memory", "open files", "S3 port", "admin port", "TLS"} {
		if !seen[check] {
			t.Errorf("%s was not checked: %+v", check, r.Findings)
		}
	}
	if left, err := os.ReadDir(m.Data); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestMachine_Directory: a directory that cannot be used is a problem; one that does not exist yet is
// a note.
func TestMachine_Directory(t *testing.T) {
	for _, test := range []struct {
		name   string
		plant  func(t *testing.T, m *Machine)
		usable bool
		wants
	}{
		{"private", func(*testing.T, *Machine) {}, true, wants{"directory", OK, "is private", ""}},
		{"missing", func(_ *testing.T, m *Machine) { m.Data = filepath.Join(m.Data, "a", "b") }, true, wants{"directory", Note, "does not exist yet", ""}},
		{"missing where nobody writes", func(t *testing.T, m *Machine) { m.Data = filepath.Join(unwritable(t), "none", "data") }, false, wants{"directory", Problem, "does not exist, and", "install -d"}},
		{"a file", func(t *testing.T, m *Machine) {
			m.Data = filepath.Join(m.Data, "file")
			write(t, m.Data, 0o600)
		}, false, wants{"directory", Problem, "is not a directory", "--data"}},
		{"below a file", func(t *testing.T, m *Machine) {
			write(t, filepath.Join(m.Data, "file"), 0o600)
			m.Data = filepath.Join(m.Data, "file", "data")
		}, false, wants{"directory", Problem, "not a directory", "--data"}},
		{"of others", func(t *testing.T, m *Machine) { chmod(t, m.Data, 0o777) }, false, wants{"directory", Problem, "written by others", "chmod 700"}},
		{"with a file for others", func(t *testing.T, m *Machine) {
			write(t, filepath.Join(m.Data, "users"), 0o644)
			write(t, filepath.Join(m.Data, "keys"), 0o604)
			write(t, filepath.Join(m.Data, "own"), 0o600)
		}, true, wants{"directory", Warning, "and 1 more files can be read by others", "chmod -R go="}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := healthy(t)
			test.plant(t, m)
			var r Report
			if dir := m.directory(&r); (dir != "") != test.usable {
				t.Errorf("the directory is %q", dir)
			}
			judge(t, &r, test.wants)
		})
	}
}

// unwritable is a directory that this user cannot write to.
func unwritable(t *testing.T) string {
	t.Helper()
	if os.Getuid() == 0 { // who may write everywhere else
		return readOnlyDisk(t)
	}
	return "/proc"
}

// readOnlyDisk is a disk that is mounted read-only.
func readOnlyDisk(t *testing.T) string {
	t.Helper()
	d := testkit.NewSmallDisk(t, 4<<30, 0)
	if err := syscall.Mount("", d.Dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skip(err)
	}
	return d.Dir
}

func write(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, nil, mode); err != nil {
		t.Fatal(err)
	}
	chmod(t, name, mode) // whatever the umask is
}

func chmod(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

// TestMachine_Room: a disk has to have the room that is configured, and one that takes no files, or
// forgets them, is a problem.
func TestMachine_Room(t *testing.T) {
	small := func(t *testing.T, m *Machine, size int64, files int) {
		m.Data = testkit.NewSmallDisk(t, size, files).Dir
	}
	for _, test := range []struct {
		name  string
		plant func(t *testing.T, m *Machine)
		wants
	}{
		{"enough", func(*testing.T, *Machine) {}, wants{"disk space", OK, "the limits add up to 1.0 MiB", ""}},
		{"more is configured than there is", func(_ *testing.T, m *Machine) { m.DiskBytes = 1 << 60 }, wants{"disk space", Warning, "the limits add up to", "cache.warm_bytes"}},
		{"hardly any", func(t *testing.T, m *Machine) { small(t, m, 1<<20, 0) }, wants{"disk space", Problem, "nothing is cached there", "free space"}},
		{"no files", func(t *testing.T, m *Machine) { small(t, m, 4<<30, 100) }, wants{"disk space", Problem, "more files", "df -i"}},
		{"read-only", func(t *testing.T, m *Machine) {
			m.Data = readOnlyDisk(t)
		}, wants{"disk space", Problem, "read-only", "remount,rw"}},
		{"in memory, for a cache", func(t *testing.T, m *Machine) { small(t, m, 4<<30, 0) }, wants{"disk space", OK, "the limits add up to", ""}},
		{"gone", func(_ *testing.T, m *Machine) { m.Data = "/none" }, wants{"disk space", Warning, "no such file", ""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := healthy(t)
			test.plant(t, m)
			var r Report
			m.room(&r, m.Data)
			judge(t, &r, test.wants)
		})
	}
	t.Run("in memory, for a journal", func(t *testing.T) {
		m := healthy(t)
		m.Acknowledges = true
		small(t, m, 4<<30, 0)
		var r Report
		m.room(&r, m.Data)
		if r.Count(Problem) != 1 || !strings.Contains(r.Findings[0].Text, "a restart of the machine loses them") {
			t.Errorf("%+v", r.Findings)
		}
	})
}

// TestMachine_JournalDisk: the separate disk of a journal must have min_free_bytes free.
func TestMachine_JournalDisk(t *testing.T) {
	m := healthy(t)
	var r Report
	m.MinFree = 1
	m.writable(&r, m.Data)
	judge(t, &r, wants{"disk space", OK, "takes writes", ""})
	r = Report{}
	m.MinFree = 1 << 60
	m.writable(&r, m.Data)
	judge(t, &r, wants{"disk space", Problem, "no write is journalled", "write_back.min_free_bytes"})
	r = Report{}
	m.writable(&r, "/none")
	judge(t, &r, wants{"disk space", Problem, "no such file", ""})
	r = Report{}
	m.speed(&r, "/none")
	judge(t, &r, wants{"disk speed", Problem, "no file can be created", ""})
}

// TestMachine_Memory: what the gateway may use has to fit into the machine or its control group.
func TestMachine_Memory(t *testing.T) {
	m := healthy(t)
	var r Report
	m.memory(&r)
	judge(t, &r, wants{"memory", OK, "the gateway may use 1.0 MiB", ""})
	r = Report{}
	m.MemoryBytes = 1 << 60
	m.memory(&r)
	judge(t, &r, wants{"memory", Problem, "it would be killed", "cache.hot_bytes"})
}

// TestMachine_Files: connections need files.
func TestMachine_Files(t *testing.T) {
	m := healthy(t)
	var r Report
	m.files(&r)
	judge(t, &r, wants{"open files", OK, "this user may open", ""})
	r = Report{}
	m.Files = 1 << 40
	m.files(&r)
	judge(t, &r, wants{"open files", Warning, fmt.Sprint(1 << 40), "ulimit -n"})
}

// taken is an address that something listens on.
func taken(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// TestMachine_Ports: a port in use is a problem, unless a gateway uses it; then its health is checked.
func TestMachine_Ports(t *testing.T) {
	admin := func(status int, health string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprintln(w, health)
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	busy := taken(t)
	for _, test := range []struct {
		name          string
		listen, admin string
		wants
	}{
		{"free", "127.0.0.1:0", "127.0.0.1:0", wants{"S3 port", OK, "is free", ""}},
		{"S3's is in use", busy, "127.0.0.1:0", wants{"S3 port", Problem, "in use by another program", "--listen"}},
		{"of another machine", "192.0.2.1:9000", "127.0.0.1:0", wants{"S3 port", Problem, "not an address of this machine", "0.0.0.0:9000"}},
		{"no address", "what", "127.0.0.1:0", wants{"S3 port", Problem, "missing port", "--listen"}},
		{"a gateway runs", busy, admin(200, "ok"), wants{"S3 port", OK, "a gateway responds on", ""}},
		{"a gateway runs well", "127.0.0.1:0", admin(200, "ok"), wants{"health", OK, "is healthy", ""}},
		{"a gateway complains", "127.0.0.1:0", admin(200, "ok\nthe disk is slow"), wants{"health", Warning, "the disk is slow", "akigw status"}},
		{"a gateway is not ready", busy, admin(503, "the journal has failed"), wants{"health", Problem, "the journal has failed", "akigw status"}},
		{"the admin port is another program's", "127.0.0.1:0", admin(404, "not found"), wants{"admin port", Problem, "in use by another program", "--admin-listen"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := healthy(t)
			m.Listen, m.AdminListen = test.listen, test.admin
			var r Report
			m.ports(&r)
			judge(t, &r, test.wants)
		})
	}
}

// TestMachine_Certificate: the certificate matches the key and does not expire soon.
func TestMachine_Certificate(t *testing.T) {
	const day = 24 * time.Hour
	for _, test := range []struct {
		name    string
		ends    time.Duration
		foreign bool
		wants
	}{
		{"good", 90 * day, false, wants{"TLS", OK, "s3.example.com", ""}},
		{"over", -day, false, wants{"TLS", Problem, "expired on", "renew"}},
		{"ends soon", 10 * day, false, wants{"TLS", Warning, "expires on", "renew"}},
		{"another's key", 90 * day, true, wants{"TLS", Problem, "private key does not match", "tls_key"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, dir := healthy(t), t.TempDir()
			m.TLSCert, m.TLSKey = filepath.Join(dir, "cert"), filepath.Join(dir, "key")
			testkit.CertifyUntil(t, m.TLSCert, m.TLSKey, "s3.example.com", time.Now().Add(test.ends), "s3.example.com")
			if test.foreign {
				testkit.CertifyUntil(t, filepath.Join(dir, "other"), m.TLSKey, "s3.example.com", time.Now().Add(test.ends))
			}
			var r Report
			m.certificate(&r)
			judge(t, &r, test.wants)
		})
	}
	m := healthy(t)
	m.TLSCert = filepath.Join(t.TempDir(), "none")
	var r Report
	m.certificate(&r)
	judge(t, &r, wants{"TLS", Problem, "no such file", "tls_cert"})
}
