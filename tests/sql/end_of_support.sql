-- Which products are past their end of support on the day of the snapshot, and on how many devices.
SELECT SoftwareVendor, SoftwareName, min(EndOfSupportDate) AS first_ended, count(DISTINCT DeviceId) AS devices
FROM software_inventory
WHERE EndOfSupportDate <= snapshot_date
GROUP BY SoftwareVendor, SoftwareName
ORDER BY devices DESC, SoftwareVendor NULLS LAST, SoftwareName NULLS LAST
LIMIT 20
