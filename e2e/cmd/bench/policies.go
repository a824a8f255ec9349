package main

import (
	"fmt"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// storePolicies puts that many MTA-STS policies into a state directory, as a policyd of before would have left them.
func storePolicies(dir string, n int) error {
	db, err := bbolt.Open(filepath.Join(dir, "mtasts.db"), 0o600, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		policies, err := tx.CreateBucket([]byte("policies-1"))
		if err != nil {
			return err
		}
		value := fmt.Appendf(nil, `{"id":"1","fetched":%q,"lines":["version: STSv1","mode: enforce","mx: mx1.example.com","mx: *.example.net","max_age: 604800"]}`,
			time.Now().UTC().Format(time.RFC3339))
		for i := range n {
			if err := policies.Put(fmt.Appendf(nil, "p%d.example", i), value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		_ = db.Close()
		return err
	}
	return db.Close()
}
