package faults_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/akidb/akigw/faults"
)

// The second read of a key gets 503 SlowDown; all other requests reach the upstream.
func Example() {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "body")
	}))
	defer upstream.Close()

	var layer faults.Layer
	plan, err := faults.Parse([]byte(`
[[fault]]
op = "GetObject"
effect = "slow_down"
nth = 2
`))
	if err == nil {
		err = layer.Set(plan)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	client := http.Client{Transport: layer.Wrap(http.DefaultTransport)}
	for range 3 {
		resp, err := client.Get(upstream.URL + "/bucket/key")
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Println(resp.StatusCode)
	}
	layer.Clear()
	// Output:
	// 200
	// 503
	// 200
}
