-- How many devices and rows each platform has; null is a platform too.
SELECT OSPlatform, count(DISTINCT DeviceId) AS devices, count(*) AS installed
FROM software_inventory
WHERE snapshot_date = DATE '2021-01-11'
GROUP BY OSPlatform
ORDER BY devices DESC, installed DESC
