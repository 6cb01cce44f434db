package gateway

import (
	"net/http"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/gateway/limits"
)

// exchange is one request on its way through the pipeline, with its response.
type exchange struct {
	request *http.Request
	answer  answer
	parsed  call   // answer.call, once the request was verified
	op      string // S3 API name, "" before the request was routed
	quota   limits.Reservation
}

// newExchange begins an exchange. With localOnly, on the fast path, it is abandoned if it cannot be
// answered locally.
func newExchange(w http.ResponseWriter, r *http.Request, localOnly bool) *exchange {
	return &exchange{request: r, answer: answer{ResponseWriter: w, started: time.Now()}, parsed: call{localOnly: localOnly}}
}

// accessKey returns the access key ID that signed the request, "" for none.
func (x *exchange) accessKey() string {
	if x.answer.call == nil {
		return ""
	}
	return x.answer.call.identity.AccessKey()
}

// id returns the x-amz-request-id, "" before identify.
func (x *exchange) id() string { return x.answer.requestID[0] }

// close releases the resources of the request.
func (x *exchange) close() {
	x.quota.End(x.answer.status)
	if x.answer.call != nil {
		x.answer.call.close()
	}
}

// errGivenUp ends an exchange on the fast path without a response.
const errGivenUp = akigw.Error("the request cannot be answered locally")
