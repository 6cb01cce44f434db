package gateway

import (
	"errors"
	"net/http"
	"time"

	"github.com/akidb/akigw/gateway/limits"
)

// exchange is one request on its way through the pipeline, with its response.
type exchange struct {
	request   *http.Request
	answer    answer
	parsed    call   // answer.call, once the request was verified
	accessKey string // that signed the request, "" for none
	op        string // S3 API name, "" before the request was routed
	started   time.Time
	local     bool // fast path: the request is given up if it cannot be answered locally
	quota     limits.Reservation
}

// newExchange begins an exchange; timed says that the answer remembers when it began.
func newExchange(w http.ResponseWriter, r *http.Request, local, timed bool) *exchange {
	return &exchange{request: r, local: local, started: time.Now(), answer: answer{ResponseWriter: w, timed: timed}}
}

// id returns x-amz-request-id, "" before identify.
func (x *exchange) id() string { return x.answer.requestID[0] }

// close gives back what the request holds.
func (x *exchange) close() {
	x.quota.End(x.answer.status)
	if x.answer.call != nil {
		x.answer.call.close()
	}
}

// errGivenUp ends an exchange on the fast path without a response.
var errGivenUp = errors.New("the request cannot be answered locally")
