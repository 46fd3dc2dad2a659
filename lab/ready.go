package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// node is what /v1/nodes says of one.
type node struct {
	Status  string
	Drivers map[string]struct {
		Detected, Healthy bool
		HealthDescription string
	}
}

// awaitNode waits until the one node is ready, and the driver detected, when one is named.
func awaitNode(driver string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	defer cancel()
	index, said := "0", errors.New("no node has registered")
	for ctx.Err() == nil {
		nodes, next, err := listNodes(ctx, index)
		switch {
		case err != nil:
			said = err
			// The server may be starting.
			time.Sleep(100 * time.Millisecond)
			continue
		case len(nodes) == 1 && nodes[0].Status != "ready":
			said = fmt.Errorf("the node is %s", nodes[0].Status)
		case len(nodes) == 1 && driver != "" && !nodes[0].Drivers[driver].Detected:
			said = fmt.Errorf("driver %s is not detected: %q", driver, nodes[0].Drivers[driver].HealthDescription)
		case len(nodes) == 1:
			if d := nodes[0].Drivers[driver]; driver != "" && !d.Healthy {
				fmt.Fprintf(os.Stderr, "driver %s is not healthy: %s\n", driver, d.HealthDescription)
			}
			return nil
		}
		index = next
	}
	return fmt.Errorf("nomad is not ready: %w", said)
}

// listNodes answers when the nodes have changed since the index, or after some seconds.
func listNodes(ctx context.Context, index string) ([]node, string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, nomadAddress+"/v1/nodes?wait=5s&index="+index, nil)
	if err != nil {
		return nil, index, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, index, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, index, fmt.Errorf("nomad answers %s", response.Status)
	}
	var nodes []node
	err = json.NewDecoder(response.Body).Decode(&nodes)
	return nodes, response.Header.Get("X-Nomad-Index"), err
}
