package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// ailment is a way in which an upstream fails.
type ailment string

// The ailments. Those with a comment are caused outside the upstream's process, by the mechanism in
// the comment. The process causes the others itself.
const (
	well          ailment = "well"
	refuses       ailment = "refuses"
	stopped       ailment = "stopped" // SIGSTOP
	drops         ailment = "drops"   // a network namespace whose route back is a black hole
	stallsTLS     ailment = "stalls in TLS"
	stallsHead    ailment = "stalls in the head"
	stallsBody    ailment = "stalls in the body"
	trickles      ailment = "1 byte/s"
	late          ailment = "slow"
	answers503    ailment = "503"
	noName        ailment = "no such name"       // a resolver that answers NXDOMAIN
	resolverHangs ailment = "resolver is silent" // a resolver that answers nothing
)

// outageHost is the host name of the upstream in the tests of name resolution.
const outageHost = "upstream.outage.test"

// outageUpstream is an S3 service over TLS in its own process. It can be broken and repaired.
type outageUpstream struct {
	t        testing.TB
	cmd      *exec.Cmd
	endpoint string   // for the gateway
	address  string   // for tests
	under    string   // the command that runs the gateway
	env      []string // of the gateway
	resolver *resolver
	route    string // the address of this end of the wire to its namespace; "" if there is none

	mu  sync.Mutex // guards the conversation with the process
	in  io.Writer
	out *bufio.Reader
}

// outagePace is the speed of an upstream with an ailment, scaled down in the quick run.
type outagePace struct {
	Slow    time.Duration // before each response of a slow upstream
	Trickle time.Duration // between two bytes of a trickling upstream
}

// startOutageUpstream starts an upstream that can get one ailment. It skips the test if this
// machine cannot produce that ailment.
func startOutageUpstream(t testing.TB, a ailment, pace outagePace) *outageUpstream {
	t.Helper()
	u := &outageUpstream{t: t, cmd: exec.Command(os.Args[0])}
	address, host := testkit.FreeAddr(t), ""
	u.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a stopped process would not notice the end of its input
	switch a {
	case drops:
		needRoot(t, "ip")
		u.cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	case noName, resolverHangs:
		needRoot(t, "unshare", "mount")
		host = outageHost
		u.resolver = startResolver(t)
		file := writeFile(t, filepath.Join(t.TempDir(), "resolv.conf"), []byte("nameserver "+u.resolver.ip+"\n"))
		u.under = fmt.Sprintf("unshare -m sh -c 'mount --bind %s /etc/resolv.conf && exec \"$0\" \"$@\"'", file)
	}
	wire := newWire(os.Getpid())
	if a == drops {
		address = wire.theirs.String() + ":9000"
	}
	u.begin(pace, address, wire, a == drops)
	_, port, _ := net.SplitHostPort(address) // address is valid
	u.endpoint, u.address = "https://"+address, address
	if host != "" {
		u.endpoint = "https://" + net.JoinHostPort(host, port)
	}
	u.tell("become " + string(well))
	return u
}

// begin starts the process.
func (u *outageUpstream) begin(pace outagePace, address string, w wire, ownNetwork bool) {
	t := u.t
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	ip, _, _ := net.SplitHostPort(address)
	testkit.Certify(t, certFile, keyFile, "upstream", ip, outageHost)
	u.env = []string{"SSL_CERT_FILE=" + certFile}
	how, err := json.Marshal(outageProcess{Pace: pace, Address: address, Cert: certFile, Key: keyFile})
	if err != nil {
		t.Fatal(err)
	}
	u.cmd.Env = append(os.Environ(), "AKIGW_E2E_OUTAGE="+string(how))
	u.cmd.Stderr = os.Stderr
	in, err := u.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := u.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := u.cmd.Start(); err != nil {
		if ownNetwork && errors.Is(err, syscall.EPERM) {
			t.Skipf("this machine provides no network namespace: %v", err)
		}
		t.Fatal(err)
	}
	u.in, u.out = in, bufio.NewReader(out)
	t.Cleanup(func() {
		u.cmd.Process.Kill()
		u.cmd.Wait()
	})
	if !ownNetwork {
		return
	}
	for _, args := range w.here(u.cmd.Process.Pid) {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Skipf("this machine provides no network namespace: ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	for _, args := range w.there() {
		u.tell("ip " + strings.Join(args, " "))
	}
	u.route = w.ours.String() + "/32"
}

// wire is a pair of virtual devices that connects this network namespace with another one.
type wire struct {
	device       string // at this end
	ours, theirs netip.Addr
}

var wires atomic.Int64

// newWire picks a device name and a network of two addresses that no other test on this machine
// uses.
func newWire(pid int) wire {
	n := (pid*31 + int(wires.Add(1))) % (1 << 14)
	third, fourth := byte(n>>6), byte(n&63)<<2
	return wire{fmt.Sprintf("aki%d", n), netip.AddrFrom4([4]byte{10, 213, third, fourth + 1}), netip.AddrFrom4([4]byte{10, 213, third, fourth + 2})}
}

// here returns the commands that create the wire, at this end. It disappears with the process at
// the other end.
func (w wire) here(pid int) [][]string {
	return [][]string{
		{"link", "add", w.device, "type", "veth", "peer", "name", "up0", "netns", fmt.Sprint(pid)},
		{"addr", "add", w.ours.String() + "/30", "dev", w.device},
		{"link", "set", w.device, "up"},
	}
}

// there returns the commands at the other end.
func (w wire) there() [][]string {
	return [][]string{{"addr", "add", w.theirs.String() + "/30", "dev", "up0"}, {"link", "set", "up0", "up"}, {"link", "set", "lo", "up"}}
}

func needRoot(t testing.TB, programs ...string) {
	t.Helper()
	need(t, programs...)
	if os.Getuid() != 0 {
		t.Skip("needs root to create a namespace")
	}
}

// tell sends the process a command and returns its answer.
func (u *outageUpstream) tell(command string) string {
	u.t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, err := io.WriteString(u.in, command+"\n"); err != nil {
		u.t.Fatal(err)
	}
	answer, err := u.out.ReadString('\n')
	if err != nil || strings.HasPrefix(answer, "error") {
		u.t.Fatalf("%s: %s %v", command, answer, err)
	}
	return strings.TrimSuffix(answer, "\n")
}

// falls starts the ailment.
func (u *outageUpstream) falls(a ailment) {
	u.t.Helper()
	switch a {
	case stopped:
		u.signal(syscall.SIGSTOP)
		u.awaitStop()
	case drops:
		u.tell("ip route add blackhole " + u.route)
	case noName, resolverHangs:
		u.resolver.mode.Store(a)
		u.tell("become " + string(well)) // connections end, so the next one needs the name
	default:
		u.tell("become " + string(a))
	}
}

// recovers ends the ailment.
func (u *outageUpstream) recovers(a ailment) {
	u.t.Helper()
	switch a {
	case stopped:
		u.signal(syscall.SIGCONT)
	case drops:
		u.tell("ip route del blackhole " + u.route)
	case noName, resolverHangs:
		u.resolver.mode.Store(well)
	default:
		u.tell("become " + string(well))
	}
}

func (u *outageUpstream) signal(s os.Signal) {
	u.t.Helper()
	if err := u.cmd.Process.Signal(s); err != nil {
		u.t.Fatal(err)
	}
}

// awaitStop waits until the process has stopped. On a busy machine it may answer for a moment longer,
// until the thread that gets the signal runs.
func (u *outageUpstream) awaitStop() {
	u.t.Helper()
	file := fmt.Sprintf("/proc/%d/stat", u.cmd.Process.Pid)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(file)
		if err != nil {
			u.t.Fatal(err)
		}
		if state := stat[bytes.LastIndexByte(stat, ')')+2]; state == 'T' {
			return
		} else if time.Now().After(deadline) {
			u.t.Fatalf("the upstream did not stop: its state is %c", state)
		}
	}
}

// objects returns the ETags of the objects in a bucket upstream, by key.
func (u *outageUpstream) objects(bucket string) (all map[string]string) {
	u.t.Helper()
	if err := json.Unmarshal([]byte(u.tell("objects "+bucket)), &all); err != nil {
		u.t.Fatal(err)
	}
	return all
}

// resolver is a name server for one name, for gateways with their own resolv.conf.
type resolver struct {
	ip   string
	conn net.PacketConn
	mode atomic.Value // an ailment
}

func startResolver(t testing.TB) *resolver {
	t.Helper()
	r := &resolver{}
	r.mode.Store(well)
	var err error
	for n := range 250 { // each has its own address, because resolv.conf supports only port 53
		r.ip = fmt.Sprintf("127.53.%d.%d", (os.Getpid()+n)%250+1, n+1)
		if r.conn, err = net.ListenPacket("udp", r.ip+":53"); err == nil {
			break
		}
	}
	if err != nil {
		t.Skipf("no name server on port 53: %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.serve()
	}()
	t.Cleanup(func() {
		r.conn.Close()
		<-done
	})
	return r
}

func (r *resolver) serve() {
	buf := make([]byte, 4096)
	for {
		n, from, err := r.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if r.mode.Load() == resolverHangs {
			continue
		}
		if answer, err := r.answer(buf[:n]); err == nil {
			r.conn.WriteTo(answer, from)
		}
	}
}

func (r *resolver) answer(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	found := q.Name.String() == outageHost+"." && r.mode.Load() == well
	answer := dnsmessage.Message{Header: dnsmessage.Header{ID: h.ID, Response: true, RCode: dnsmessage.RCodeNameError, RecursionAvailable: true}, Questions: []dnsmessage.Question{q}}
	if found {
		answer.RCode = dnsmessage.RCodeSuccess
	}
	if found && q.Type == dnsmessage.TypeA {
		answer.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}}}
	}
	return answer.Pack()
}

// outageProcess is the upstream's process, with its settings from the environment.
type outageProcess struct {
	Pace      outagePace
	Address   string
	Cert, Key string

	memory *slowMemory
	server *http.Server
	now    atomic.Pointer[spell]
}

// spell is a period with one ailment.
type spell struct {
	ailment
	over chan struct{}
}

// runOutageUpstream is the main function of the process. It returns at the end of its input.
func runOutageUpstream() error {
	p := &outageProcess{memory: &slowMemory{Memory: s3mem.New(), slots: make(chan struct{}, 256)}}
	if err := json.Unmarshal([]byte(os.Getenv("AKIGW_E2E_OUTAGE")), p); err != nil {
		return err
	}
	p.now.Store(&spell{well, make(chan struct{})})
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		answer, err := p.obey(lines.Text())
		if err != nil {
			answer = "error: " + strings.ReplaceAll(err.Error(), "\n", " ")
		}
		fmt.Println(answer)
	}
	return nil
}

// obey executes a command of the test.
func (p *outageProcess) obey(command string) (string, error) {
	verb, rest, _ := strings.Cut(command, " ")
	switch verb {
	case "become":
		return "done", p.become(ailment(rest))
	case "ip":
		out, err := exec.Command("ip", strings.Fields(rest)...).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("ip %s: %w: %s", rest, err, out)
		}
		return "done", nil
	case "fill":
		var bucket, prefix string
		var n int
		if _, err := fmt.Sscan(rest, &bucket, &prefix, &n); err != nil {
			return "", err
		}
		for i := range n {
			p.memory.Put(akigw.Key{Bucket: bucket, Name: fmt.Sprint(prefix, i)}, body1000)
		}
		return "done", nil
	case "objects":
		all := map[string]string{}
		for _, name := range p.memory.KeysOf(rest) {
			o, _ := p.memory.Get(akigw.Key{Bucket: rest, Name: name})
			all[name] = o.ETag
		}
		raw, err := json.Marshal(all)
		return string(raw), err
	}
	return "", fmt.Errorf("unknown command %q", command)
}

// become closes all connections and continues with an ailment.
func (p *outageProcess) become(a ailment) error {
	if p.server != nil {
		p.server.Close() // the listener may be closed already
	}
	next := &spell{a, make(chan struct{})}
	close(p.now.Swap(next).over)
	if a == refuses {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(p.Cert, p.Key)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", p.Address)
	if err != nil {
		return err
	}
	if a == stallsTLS {
		l = &deafListener{l, next.over}
	}
	server := &http.Server{Handler: p, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, ErrorLog: log.New(io.Discard, "", 0)}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	p.server = server
	go server.ServeTLS(l, "", "")
	return nil
}

// deafListener accepts connections and reads nothing from them.
type deafListener struct {
	net.Listener
	over <-chan struct{}
}

// Accept implements net.Listener.
func (d *deafListener) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &deafConn{conn, d.over}, nil
}

type deafConn struct {
	net.Conn
	over <-chan struct{}
}

// Read implements net.Conn.
func (d *deafConn) Read([]byte) (int, error) {
	<-d.over
	return 0, io.EOF
}

// ServeHTTP implements http.Handler.
func (p *outageProcess) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := p.now.Load()
	switch now.ailment {
	case stallsHead:
		p.stallInHead(w, r, now)
		return
	case stallsBody:
		w, r.Body = &stalling{ResponseWriter: w, spell: now, r: r}, &stallingBody{r.Body, r.ContentLength / 2, now, r}
	case trickles:
		w, r.Body = &trickling{w, p.Pace.Trickle, now, r}, &tricklingBody{r.Body, p.Pace.Trickle, now, r}
	case late:
		now.pause(p.Pace.Slow, r)
	case answers503:
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>")
		return
	}
	if r.URL.Query().Has("tagging") && r.Method == http.MethodGet {
		answer := []byte("<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>")
		w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
		w.WriteHeader(http.StatusOK)
		w.Write(answer)
		return
	}
	p.memory.ServeHTTP(w, r)
}

// pause waits until the ailment or the client's request ends, but not longer than the given time. A
// request that ends early gets no response.
func (s *spell) pause(d time.Duration, r *http.Request) {
	select {
	case <-time.After(d):
	case <-s.over:
		panic(http.ErrAbortHandler)
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// forever is longer than any test.
const forever = 24 * time.Hour

// stallInHead accepts a request and sends half of a head.
func (p *outageProcess) stallInHead(w http.ResponseWriter, r *http.Request, now *spell) {
	io.Copy(io.Discard, r.Body)
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer conn.Close()
	buffered.WriteString("HTTP/1.1 200 OK\r\nContent-Type: text/pl")
	buffered.Flush()
	gone := make(chan struct{})
	go func() { // it ends with the connection
		defer close(gone)
		io.Copy(io.Discard, conn)
	}()
	select {
	case <-now.over:
	case <-gone:
	}
}

// stalling sends half of a body.
type stalling struct {
	http.ResponseWriter
	*spell
	r *http.Request
}

// Write implements io.Writer.
func (s *stalling) Write(b []byte) (int, error) {
	if len(b) > 0 {
		s.ResponseWriter.Write(b[:len(b)/2])
		http.NewResponseController(s.ResponseWriter).Flush()
		s.pause(forever, s.r)
	}
	return len(b), nil
}

// stallingBody reads the first bytes of a body.
type stallingBody struct {
	io.ReadCloser
	left int64
	*spell
	r *http.Request
}

// Read implements io.Reader.
func (s *stallingBody) Read(b []byte) (int, error) {
	if s.left <= 0 && s.r.ContentLength > 0 {
		s.pause(forever, s.r)
	}
	n, err := s.ReadCloser.Read(b[:min(int64(len(b)), max(s.left, 1))])
	s.left -= int64(n)
	return n, err
}

// trickling sends a body byte by byte.
type trickling struct {
	http.ResponseWriter
	pace time.Duration
	*spell
	r *http.Request
}

// Write implements io.Writer.
func (t *trickling) Write(b []byte) (int, error) {
	for i := range b {
		t.ResponseWriter.Write(b[i : i+1])
		http.NewResponseController(t.ResponseWriter).Flush()
		t.pause(t.pace, t.r)
	}
	return len(b), nil
}

// tricklingBody reads a body byte by byte.
type tricklingBody struct {
	io.ReadCloser
	pace time.Duration
	*spell
	r *http.Request
}

// Read implements io.Reader.
func (t *tricklingBody) Read(b []byte) (int, error) {
	n, err := t.ReadCloser.Read(b[:min(len(b), 1)])
	if n > 0 {
		t.spell.pause(t.pace, t.r)
	}
	return n, err
}
